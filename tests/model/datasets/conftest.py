"""A small labelled data set, and writers for each published format."""

import gzip
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.model.archives import write_tar

Pixels = npt.NDArray[np.uint8]
BATCHES = [f"data_batch_{number}" for number in range(1, 6)]


def _random_images(count: int, channels: int, side: int) -> Pixels:
    return np.random.default_rng(side).integers(0, 256, (count, channels, side, side), dtype=np.uint8)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def names() -> tuple[str, ...]:
    """Ten names in alphabetical order, as class folders have them."""
    return ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture
def colour() -> Pixels:
    """(10, 3, 32, 32): one image of each class, with random pixels."""
    return _random_images(10, 3, 32)


@pytest.fixture
def grey() -> Pixels:
    """(10, 1, 28, 28): one image of each class, with random pixels."""
    return _random_images(10, 1, 28)


@pytest.fixture
def labels() -> list[int]:
    return list(range(10))


@pytest.fixture
def write_members() -> Callable[[Path, Mapping[str, bytes]], Path]:
    """Return a function that writes members as a .tar.gz or, for a path with another ending, as a folder."""

    def write(path: Path, members: Mapping[str, bytes]) -> Path:
        if path.name.endswith(".tar.gz"):
            return write_tar(path, members)
        path.mkdir()
        for name, content in members.items():
            (path / name).write_bytes(content)
        return path

    return write


@pytest.fixture
def cifar10_binary_members() -> Callable[..., dict[str, bytes]]:
    def members(images: Pixels, labels: list[int], names: tuple[str, ...]) -> dict[str, bytes]:
        records = [bytes([label]) + image.tobytes() for label, image in zip(labels, images, strict=True)]
        per_batch = len(images) // 5
        written = {
            f"{name}.bin": b"".join(records[index * per_batch : (index + 1) * per_batch])
            for index, name in enumerate(BATCHES)
        }
        written["test_batch.bin"] = b"".join(records[:per_batch])
        written["batches.meta.txt"] = ("\n".join(names) + "\n\n").encode()
        return written

    return members


@pytest.fixture
def stl10_members() -> Callable[..., dict[str, bytes]]:
    def members(images: Pixels, labels: list[int], names: tuple[str, ...]) -> dict[str, bytes]:
        """images: (N, 3, 96, 96), written column by column."""
        written: dict[str, bytes] = {}
        for split in ("train", "test"):
            written[f"{split}_X.bin"] = b"".join(
                bytes([image[channel, row, column]])
                for image in images
                for channel in range(3)
                for column in range(96)
                for row in range(96)
            )
            written[f"{split}_y.bin"] = bytes(label + 1 for label in labels)
        written["class_names.txt"] = "\n".join(names).encode()
        return written

    return members


@pytest.fixture
def write_idx() -> Callable[..., Path]:
    def write(folder: Path, images: Pixels, labels: list[int], split: str = "train", zipped: bool = True) -> Path:
        folder.mkdir(exist_ok=True)
        prefix = {"train": "train", "test": "t10k"}[split]
        _, _, height, width = images.shape
        contents = {
            f"{prefix}-images-idx3-ubyte": struct.pack(">4I", 0x803, len(images), height, width) + images.tobytes(),
            f"{prefix}-labels-idx1-ubyte": struct.pack(">2I", 0x801, len(labels)) + bytes(labels),
        }
        for name, content in contents.items():
            file = folder / (f"{name}.gz" if zipped else name)
            file.write_bytes(gzip.compress(content) if zipped else content)
        return folder

    return write


@pytest.fixture
def write_folder() -> Callable[..., Path]:
    def write(folder: Path, images: Pixels, labels: list[int], names: tuple[str, ...], suffix: str = ".png") -> Path:
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            file = folder / names[label] / f"{index:05d}{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).save(file)
        return folder

    return write
