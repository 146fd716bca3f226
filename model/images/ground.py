"""Finds pictures on a flat ground: drawings and letters on one colour, unlike photographs."""

import numpy as np
import numpy.typing as npt

SAME_COLOUR = 8
"""Grey levels by which a pixel may differ, in each channel, from the colour of the ground."""
SHARE_OF_EDGE = 2.0 / 3.0
"""Share of a picture's outermost pixels that have the colour of a flat ground. A drawing may touch the edge."""


def on_flat_ground(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Return which images lie on a ground of one colour, (N,), by their outermost pixels. images: (N, C, H, W)."""
    top_and_bottom, sides = images[:, :, [0, -1], :], images[:, :, 1:-1, [0, -1]]
    edge = np.concatenate([part.reshape(*images.shape[:2], -1) for part in (top_and_bottom, sides)], axis=2)
    ground = np.median(edge, axis=2, keepdims=True)
    same = (np.abs(edge - ground) <= SAME_COLOUR).all(axis=1)
    return np.asarray(same.mean(axis=1) >= SHARE_OF_EDGE)
