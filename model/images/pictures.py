"""Pictures for people: grids of images and the training loss as a curve."""

import math
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]

LONGEST_LINE = 64
"""Most images in a line, and most lines, of a grid that has one line for each class."""


def grid(images: Pixels, columns: int, *, gap: int = 2) -> Pixels:
    """Lay images (N, H, W, C) line by line on a white sheet; returns (H', W', C) uint8. C: 1 or 3."""
    count, height, width, channels = images.shape
    lines = -(-count // columns)
    sheet = np.full((lines * (height + gap) + gap, columns * (width + gap) + gap, channels), 255, dtype=np.uint8)
    for position, image in enumerate(images):
        line, column = divmod(position, columns)
        top, left = gap + line * (height + gap), gap + column * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def default_columns(classes: int, images_per_class: int) -> int:
    """Return the columns of a grid with one line for each class. One class, or a very long grid, is nearly square."""
    if 1 < classes <= LONGEST_LINE and images_per_class <= LONGEST_LINE:
        return images_per_class
    return math.ceil(math.sqrt(classes * images_per_class))


def to_pillow(image: Pixels) -> Image.Image:
    """Return (H, W, C) uint8 as a Pillow image, grey for C = 1."""
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def png(image: Pixels, *, scale: int = 1) -> bytes:
    """Return (H, W, C) uint8 as PNG bytes, with every pixel enlarged to `scale` x `scale`."""
    picture = to_pillow(image)
    if scale > 1:
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    buffer = BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def loss_curve(images_seen: npt.NDArray[np.float64], losses: npt.NDArray[np.float64], title: str) -> bytes:
    """Plot the training loss against images seen; returns PNG bytes. images_seen, losses: (N,)."""
    from matplotlib.figure import Figure  # slow to import, and only needed here

    figure = Figure(figsize=(7, 4), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(images_seen, losses, linewidth=0.8, alpha=0.4, label="logged")
    window = max(1, len(losses) // 50)
    if window > 1:
        smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
        axes.plot(images_seen[window - 1 :], smooth, linewidth=1.6, label=f"mean of {window}")
    axes.set(xlabel="images seen", ylabel="loss", title=title)
    if len(losses) > 1:
        axes.set_ylim(0.9 * float(losses.min()), float(np.quantile(losses, 0.98)) * 1.15)
    axes.legend()
    axes.grid(alpha=0.3)
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
