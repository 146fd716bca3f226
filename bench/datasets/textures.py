"""Computed textures of two colours: 32x32."""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from recipes.make_emoji import Picture

Floats = npt.NDArray[np.float64]
Field = Callable[[Floats, Floats, np.random.Generator], Floats | npt.NDArray[np.bool_]]

SIDE = 32
FINE = 4
"""Points computed for each pixel and direction; their mean is the pixel."""


def _bricks(u: Floats, v: Floats, chance: np.random.Generator) -> npt.NDArray[np.bool_]:
    along = u / 2 + np.floor(v) % 2 / 2
    return (v % 1 < 0.2) | (along % 1 < 0.1)


def _noise(u: Floats, v: Floats, chance: np.random.Generator) -> Floats:
    """Waves of six random directions, added."""
    angles, phases = chance.uniform(0, 2 * np.pi, (2, 6))
    waves = [np.sin(3 * (u * np.cos(a) + v * np.sin(a)) + p) for a, p in zip(angles, phases, strict=True)]
    return _spread(np.sum(waves, axis=0))


def _gradient(u: Floats, v: Floats, chance: np.random.Generator) -> Floats:
    return _spread(u)


def _spread(values: Floats) -> Floats:
    spread: Floats = (values - values.min()) / (values.max() - values.min())
    return spread


FIELDS: dict[str, Field] = {
    "bricks": _bricks,
    "checks": lambda u, v, _: (np.floor(u) + np.floor(v)) % 2,
    "dots": lambda u, v, chance: np.hypot(u % 1 - 0.5, v % 1 - 0.5) < chance.uniform(0.25, 0.4),
    "gradient": _gradient,
    "noise": _noise,
    "rings": lambda u, v, _: np.hypot(u - u.mean(), v - v.mean()) % 1 < 0.5,
    "stripes": lambda u, v, _: u % 1 < 0.5,
    "waves": lambda u, v, _: (u + 0.3 * np.sin(2 * np.pi * v / 1.5)) % 1 < 0.5,
}
"""From coordinates u, v, which count repeats, to the share 0..1 of the second colour."""


def textures(each: int = 300) -> Iterator[Picture]:
    """Compute `each` textures of every class. Each is a concept of its own."""
    for number, name in enumerate(FIELDS):
        for index in range(each):
            image = _texture(FIELDS[name], np.random.default_rng((number, index)))
            yield Picture(name, f"{name} {index}", f"{index:04}.png", image)


def _texture(field: Field, chance: np.random.Generator) -> Image.Image:
    angle, repeats = chance.uniform(0, np.pi), chance.uniform(2, 5)
    shift = chance.uniform(0, 1, 2)
    y, x = np.mgrid[: SIDE * FINE, : SIDE * FINE] * (repeats / (SIDE * FINE))
    u = x * np.cos(angle) + y * np.sin(angle) + shift[0]
    v = y * np.cos(angle) - x * np.sin(angle) + shift[1]
    share = np.asarray(field(u, v, chance), dtype=np.float64)
    share = share.reshape(SIDE, FINE, SIDE, FINE).mean((1, 3))[..., None]
    first = chance.uniform(0, 255, 3)
    second = (first + chance.uniform(80, 175, 3)) % 255
    return Image.fromarray(np.rint(first + (second - first) * share).astype(np.uint8))
