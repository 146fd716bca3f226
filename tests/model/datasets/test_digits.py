import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets import DatasetError, load_dataset


def test_the_splits_part_the_published_images_and_scale_them_to_bytes(cache: Path) -> None:
    published = import_module("sklearn.datasets").load_digits()
    train = load_dataset(DatasetConfig(format="digits"), cache)
    test = load_dataset(DatasetConfig(format="digits", split="test"), cache)
    assert (len(train), len(test)) == (1500, 297)
    both = np.concatenate([train.images, test.images])
    assert both.shape == (1797, 1, 8, 8)
    assert both.min() == 0
    assert both.max() == 255
    assert np.abs(both[:, 0] / 255 * 16 - published.images).max() <= 0.5 / 255 * 16
    np.testing.assert_array_equal(np.concatenate([train.labels, test.labels]), published.target)
    assert train.class_names == tuple("0123456789")


def test_without_scikit_learn_the_error_says_what_to_install(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DatasetError, match=r"pip install -c constraints.txt -e '\.\[digits\]'"):
        load_dataset(DatasetConfig(format="digits"), cache)


def test_a_path_is_refused(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no path"):
        load_dataset(DatasetConfig(format="digits", path=tmp_path), cache)
