"""Data sets: every source format ends as one memory-mapped uint8 array with labels and class names."""

from model.datasets.dataset import DatasetError, ImageDataset
from model.datasets.load import load_dataset

__all__ = ["DatasetError", "ImageDataset", "load_dataset"]
