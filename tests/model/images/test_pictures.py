"""Pictures keep every pixel."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from darkroom.model.images.pictures import grid, loss_curve, png


@pytest.mark.parametrize("channels", [1, 3])
def test_png_is_lossless(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 5, channels), dtype=np.uint8)
    back = np.asarray(Image.open(BytesIO(png(image)))).reshape(image.shape)
    assert (back == image).all()
    large = np.asarray(Image.open(BytesIO(png(image, scale=3)))).reshape(21, 15, channels)
    assert (large == image.repeat(3, axis=0).repeat(3, axis=1)).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_holds_every_image_in_reading_order(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, channels), dtype=np.uint8)
    sheet = grid(images, 3, gap=1)
    assert sheet.shape == (2 * 5 + 1, 3 * 5 + 1, channels)
    for position, image in enumerate(images):
        top, left = 1 + position // 3 * 5, 1 + position % 3 * 5
        assert (sheet[top : top + 4, left : left + 4] == image).all()
    assert (sheet[6:, 11:] == 255).all()  # no sixth image
    assert (sheet[0] == 255).all()


@pytest.mark.parametrize("count", [1, 2, 200])
def test_loss_curve_is_a_picture_for_any_number_of_lines(count: int) -> None:
    data = loss_curve(np.arange(count, dtype=np.float64), np.linspace(1.0, 0.1, count), "a run")
    assert Image.open(BytesIO(data)).format == "PNG"
