"""The 1,797 handwritten digits of scikit-learn: grey, 8x8."""

from collections.abc import Iterator

import numpy as np
from PIL import Image

from recipes.make_emoji import Picture


def digits() -> Iterator[Picture]:
    """Return the digits with values 0..16 scaled to 0..255. Each is a concept of its own."""
    from sklearn.datasets import load_digits  # takes a second, which other data sets need not wait for

    found = load_digits()
    for index, (image, label) in enumerate(zip(found.images, found.target, strict=True)):
        pixels = np.rint(image * (255 / 16)).astype(np.uint8)
        yield Picture(str(label), f"digit {index}", f"{index:04}.png", Image.fromarray(pixels))
