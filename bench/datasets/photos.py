"""Cuts from three photographs that scikit-learn and Matplotlib bring: colour, 32x32."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib import get_data_path
from PIL import Image

from recipes.make_emoji import Picture

SIDE = 32


def photos(each: int = 700) -> Iterator[Picture]:
    """Cut `each` squares of 2 to 5 times SIDE from every photograph and scale them down. Each is a concept."""
    from sklearn.datasets import load_sample_images  # takes a second, which other data sets need not wait for

    china, flower = load_sample_images().images
    with Image.open(Path(get_data_path()) / "sample_data" / "grace_hopper.jpg") as picture:
        portrait = np.asarray(picture.convert("RGB"))
    for number, (name, photo) in enumerate({"palace": china, "flower": flower, "portrait": portrait}.items()):
        for index in range(each):
            chance = np.random.default_rng((number, index))
            side = int(chance.integers(2 * SIDE, 5 * SIDE))
            top, left = (int(chance.integers(length - side)) for length in photo.shape[:2])
            cut = Image.fromarray(photo[top : top + side, left : left + side])
            image = cut.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            yield Picture(name, f"{name} {index}", f"{index:04}.png", image)
