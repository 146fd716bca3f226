"""Laws of flat grounds: a picture's outermost pixels decide, and what is drawn may touch some of them."""

import numpy as np
import pytest

from darkroom.model.images.ground import on_flat_ground


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("ground", [0, 128, 255])
def test_a_drawing_may_touch_a_third_of_the_edge(ground: int, channels: int) -> None:
    images = np.full((3, channels, 16, 16), ground, dtype=np.uint8)
    images[:, :, 4:12, 4:12] = 70  # touches nothing
    images[1, :, 0, :] = 70  # 16 of 60 pixels
    images[2, :, [0, -1], :] = 70  # 32 of 60
    assert on_flat_ground(images).tolist() == [True, True, False]


def test_a_ground_is_flat_if_every_channel_is() -> None:
    draw = np.random.default_rng(0)
    images = np.full((3, 3, 16, 16), 200, dtype=np.uint8)
    images[1] += draw.integers(0, 9, (3, 16, 16), dtype=np.uint8)  # as a JPEG changes it
    images[2, 2] = draw.integers(0, 256, (16, 16))
    assert on_flat_ground(images).tolist() == [True, True, False]


@pytest.mark.parametrize("side", [1, 2, 3])
def test_the_smallest_pictures_have_an_edge(side: int) -> None:
    assert on_flat_ground(np.zeros((2, 1, side, side), dtype=np.uint8)).all()
