"""The data that a caller hands over, as the data set that training and evaluation read."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from darkroom.model.config import DatasetConfig, Recipe, changed
from darkroom.model.datasets.dataset import DatasetError, ImageDataset
from darkroom.model.datasets.decoded import check_decoded, numbered_class_names
from darkroom.model.datasets.load import dataset_files, load_dataset
from darkroom.model.datasets.materialise import materialise, open_materialised
from darkroom.model.datasets.resize import square_images
from darkroom.model.extension_points import FORMATS
from darkroom.model.progress import OnProgress, silent, told

CACHE = Path(".darkroom/datasets")
"""Where decoded data sets are kept; `darkroom train` and `darkroom evaluate` use the same folder."""

_SOURCE = "data"
"""What error messages call images that come from memory."""


def open_data(
    data: Any,
    recipe: Recipe,
    class_names: Sequence[str] | None,
    cache: Path,
    digest: str | None = None,
    on_progress: OnProgress = silent,
) -> tuple[DatasetConfig, ImageDataset]:
    """Return where the data is, as a recipe says it, and the data set.

    data: as `darkroom.train` takes it. Images are scaled to the recipe's model.image_size, except with None.
    digest: of the data set that data=None means where the recipe names no path: it came from memory.
    on_progress: told how many images are read. Raises DatasetError.
    """
    if data is None:
        config = recipe.dataset
        in_memory = config.path is None and not FORMATS[config.format].bundled
        kept = open_materialised(cache, digest) if in_memory and digest is not None else None
        return config, kept or load_dataset(config, cache, on_progress)
    if isinstance(class_names, str) or not all(isinstance(name, str) for name in class_names or ()):
        raise DatasetError(f"class_names is {class_names!r}: give a list of texts, one for each class")
    side = recipe.model.image_size
    if isinstance(data, str | Path):
        names = None if class_names is None else tuple(class_names)
        config = _config_of_path(Path(data), recipe.dataset, names, side)
        return config, load_dataset(config, cache, on_progress)
    return open_in_memory(data, class_names, cache, lambda longest: side, on_progress)


def open_in_memory(
    data: Any,
    class_names: Sequence[str] | None,
    cache: Path,
    side: Callable[[int], int],
    on_progress: OnProgress = silent,
) -> tuple[DatasetConfig, ImageDataset]:
    """Like `open_data`, for data that is no path. side: from the images' shorter side to the one to scale them to."""
    images, labels, own_names = _arrays(data, on_progress)
    decoded = check_decoded(
        square_images(images, side(min(images.shape[2:])), _SOURCE, on_progress=on_progress),
        labels,
        numbered_class_names(labels, own_names if class_names is None else tuple(class_names), _SOURCE),
        images_source=_SOURCE,
        labels_source=_SOURCE,
    )
    return DatasetConfig(format="npz", class_names=decoded.class_names), materialise(decoded, cache)


def _config_of_path(path: Path, own: DatasetConfig, class_names: tuple[str, ...] | None, side: int) -> DatasetConfig:
    """The path in the recipe's own format where that finds its files there, else by the kind of the file."""
    fields = {"path": path, "image_size": side}
    config = changed(own, fields | ({} if class_names is None else {"class_names": class_names}))
    if not FORMATS[own.format].bundled and _has_files(config):
        return config
    kind = {".npz": "npz", ".zip": "zip"}.get(path.suffix.lower(), "folder")
    return DatasetConfig(format=kind, path=path, split=own.split, image_size=side, class_names=class_names)


def _has_files(config: DatasetConfig) -> bool:
    try:
        return bool(dataset_files(config))
    except DatasetError:
        return False


def _arrays(
    data: Any, on_progress: OnProgress
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.integer], tuple[str, ...] | None]:
    """Images (N, C, H, W), labels (N,) and the class names that the data carries."""
    if isinstance(data, tuple):
        if len(data) != 2:
            raise DatasetError(f"{_SOURCE}: a tuple of {len(data)}; (images, labels) expected")
        images, labels = np.asarray(data[0]), np.asarray(data[1])
        names = None
    else:
        if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
            found = f"an object of type {type(data).__name__}"
            raise DatasetError(f"{_SOURCE}: {found}; a path, (images, labels) or a torch Dataset expected")
        pairs = list(_pairs(data, on_progress))
        if not pairs:
            raise DatasetError(f"{_SOURCE}: holds no images")
        shapes = {image.shape for image, _ in pairs}
        if len(shapes) > 1:
            raise DatasetError(f"{_SOURCE}: its images differ in shape: {sorted(shapes)[:4]}; scale them to one size")
        images, labels = np.stack([image for image, _ in pairs]), np.asarray([label for _, label in pairs])
        classes = getattr(data, "classes", None)  # as torchvision's data sets call them
        names = tuple(map(str, classes)) if classes is not None else None
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise DatasetError(
            f"{_SOURCE}: images: {images.dtype} of shape {images.shape}; uint8 (N, H, W) or (N, H, W, C) expected"
        )
    if labels.dtype.kind not in "iu":
        raise DatasetError(f"{_SOURCE}: labels: {labels.dtype}; integers expected")
    return images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2), labels, names


def _pairs(data: Any, on_progress: OnProgress) -> Iterable[tuple[npt.NDArray[Any], int]]:
    """Image (H, W) or (H, W, C) and label of each item of a torch Dataset."""
    for index in told("reading images", range(len(data)), on_progress):
        image, label = data[index]
        yield _image(image), int(label)


def _image(image: Any) -> npt.NDArray[Any]:
    """An image (H, W) or (H, W, C). Tensors are (C, H, W); where they hold floats, 0..1, as torchvision makes them."""
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB"))
    array = np.asarray(image)
    if not isinstance(image, torch.Tensor):
        return array
    if array.dtype.kind == "f":
        if array.min(initial=0.0) < 0.0 or array.max(initial=0.0) > 1.0:
            raise DatasetError(f"{_SOURCE}: a tensor holds floats outside 0..1; leave out the normalisation")
        array = np.rint(array * 255.0).astype(np.uint8)
    return array.transpose(1, 2, 0) if array.ndim == 3 else array
