"""Data sets: every source format becomes one memory-mapped uint8 array with labels and class names."""

from darkroom.model.datasets.dataset import DatasetError, ImageDataset
from darkroom.model.datasets.load import load_dataset

__all__ = ["DatasetError", "ImageDataset", "load_dataset"]
