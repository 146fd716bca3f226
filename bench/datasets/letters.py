"""Letters in the fonts that Matplotlib brings, each turned, scaled and moved a little: 24x24."""

import random
import string
from collections.abc import Iterator
from pathlib import Path

from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont, ImageOps

from recipes.make_emoji import Picture

FONTS = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmb10", "cmmi10", "cmr10", "cmss10", "cmti10", "cmtt10"),
)
SIDE = 24
DRAWN = 8 * SIDE
"""Letters are drawn this large and scaled down, so that edges are smooth at every angle."""


def letters(alphabet: str = string.ascii_uppercase, variants: int = 6, *, coloured: bool = False) -> Iterator[Picture]:
    """Draw each letter `variants` times in each font. All drawings of a letter in one font are one concept.

    They are black on white and grey pictures, or of two random colours.
    """
    folder = Path(get_data_path()) / "fonts" / "ttf"
    for letter in alphabet:
        for font in FONTS:
            for variant in range(variants):
                chance = random.Random(f"{letter} {font} {variant}")
                image = _letter(letter, folder / f"{font}.ttf", chance, coloured=coloured)
                yield Picture(letter, f"{letter} in {font}", f"{font}-{variant}.png", image)


def _letter(letter: str, font: Path, chance: random.Random, *, coloured: bool) -> Image.Image:
    large = Image.new("L", (DRAWN, DRAWN), 255)
    size = DRAWN * chance.uniform(0.7, 0.95)
    centre = [DRAWN / 2 + DRAWN * chance.uniform(-0.06, 0.06) for _ in "xy"]
    left, top, right, bottom = (drawn := ImageFont.truetype(font, size)).getbbox(letter)
    place = (centre[0] - (left + right) / 2, centre[1] - (top + bottom) / 2)
    ImageDraw.Draw(large).text(place, letter, fill=0, font=drawn)
    turned = large.rotate(chance.uniform(-12, 12), Image.Resampling.BICUBIC, fillcolor=255)
    image = turned.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    if not coloured:
        return image
    ground = [chance.randrange(256) for _ in "RGB"]
    ink = tuple((level + chance.randrange(80, 176)) % 256 for level in ground)
    return ImageOps.colorize(image, ink, tuple(ground))
