"""Builds class folders of colour pictures from an emoji font: `python -m recipes.make_emoji OUT [--side 32]`.

Font and list come from Debian's packages `fonts-noto-color-emoji` and `unicode-data`. The nine groups of Unicode's
list are the classes; `--classes everyday` makes finer ones. `--drawings FOLDER ...` adds pictures from packages of
SVG drawings. OUT gets `train/CLASS/*.png`, `test/CLASS/*.png`, `pictures.csv` with the name of each picture,
and `LICENSE.txt`. The same font, list, packages and side always give the same bytes.
"""

import argparse
import csv
import hashlib
import io
import itertools
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from fontTools.ttLib import TTFont, TTLibError
from PIL import Image, ImageOps

from recipes.emoji_drawings import Drawings, DrawingsError, drawn, without_presentation

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
LIST = Path("/usr/share/unicode/emoji/emoji-test.txt")
TEST_SHARE = 0.1
NOTICE = """\
The pictures are made from the bitmaps of the font below, laid over white and scaled. Debian's fonts-noto-color-emoji
has the font under the SIL Open Font License 1.1, and its source drawings under the Apache License 2.0. The names and
groups are those of Unicode's emoji-test.txt (https://www.unicode.org/terms_of_use.html).
"""

_LINE = re.compile(r"^([0-9A-F ]+?) *; fully-qualified +# \S+ E[0-9.]+ (.+)$")
_SKIN_TONES = frozenset(range(0x1F3FB, 0x1F400))
_EVERYDAY = {
    "Faces": "face-.*",
    "Hearts & feelings": "heart|emotion",
    "Hands": "hand.*|body-parts",
    "People": "person.*|family",
    "Animals": "animal-(mammal|amphibian|reptile)|cat-face|monkey-face",
    "Birds": "animal-bird",
    "Sea animals & bugs": "animal-(marine|bug)|food-marine",
    "Plants": "plant-.*",
    "Fruit & vegetables": "food-(fruit|vegetable)",
    "Meals": "food-(prepared|asian)|dishware",
    "Sweets": "food-sweet",
    "Drinks": "drink",
    "Places": "place-.*|hotel",
    "Vehicles": "transport-(ground|water|air)",
    "Clocks": "time",
    "Sky & weather": "sky & weather",
    "Sports & games": "event|award-medal|sport|game|arts & crafts",
    "Clothes": "clothing",
    "Music": "sound|music.*",
    "Machines": "phone|computer|light & video",
    "Paper & money": "book-paper|money|mail|writing|office",
    "Household & tools": "lock|tool|science|medical|household|other-object",
    "Signs": "transport-sign|warning|religion|zodiac|gender|other-symbol",
    "Arrows & buttons": "arrow|av-symbol|math|punctuation|currency",
    "Letters & numbers": "keycap|alphanum",
    "Shapes": "geometric",
    "Flags": ".*flag",
}
"""Classes in everyday words, and the subgroups of Unicode's list that each holds."""
_VARIANT = re.compile(
    # gender and age
    "man|men|woman|women|boy|girl|child|person|people|and|"
    # direction and position
    "left|right|up|down|(up|down|left|right)wards|facing|oncoming|play|reverse|fast|forward|next|last|"
    "raised|lowered|open|closed|horizontal|vertical|"
    # colour and size
    "red|orange|yellow|green|blue|purple|brown|black|white|grey|pink|light|"
    "large|medium|small|low|high|uppercase|lowercase|"
    # count and phase
    "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|1st|2nd|3rd|"
    "new|full|waxing|waning|crescent|gibbous|first|quarter"
)
"""A word of an emoji's name that tells variants of one concept apart."""

_SAME = {
    "mermaid": "merperson",
    "merman": "merperson",
    "prince": "crown",
    "princess": "crown",
    "with crown": "crown",
    "Santa Claus": "Claus",
    "Mrs. Claus": "Claus",
    "mx claus": "Claus",
    "older": "old",
    "thirty": "o’clock",
    "unlocked": "locked",
    "back of hand": "hand",
    "camera with flash": "camera",
    "speech bubble": "speech balloon",
    "upside face": "slightly smiling face",
    "flag: Chad": "flag: Romania",
    "flag: Côte d’Ivoire": "flag: Ireland",
    "flag: Monaco": "flag: Indonesia",
}
"""Concepts whose names are different words for variants of one picture, and flags that look alike."""


class MakeEmojiError(Exception):
    """The font or the list cannot be used; the text says why."""


@dataclass(frozen=True)
class Emoji:
    """A line of Unicode's list. codes: its code points without the presentation sign."""

    codes: tuple[int, ...]
    name: str
    group: str
    subgroup: str

    def everyday(self) -> str:
        """Return its class in everyday words."""
        return next(name for name, groups in _EVERYDAY.items() if re.fullmatch(groups, self.subgroup))


@dataclass(frozen=True)
class Picture:
    """A picture for class folders. Pictures of one concept go to the same split."""

    class_name: str
    concept: str
    file_name: str
    image: Image.Image
    title: str = ""


def emoji_list(text: str) -> list[Emoji]:
    """Read `emoji-test.txt`: its fully qualified emoji, without the group of components (skin tones, hair)."""
    found, group, subgroup = [], "", ""
    for line in text.splitlines():
        if line.startswith("# group: "):
            group = line.removeprefix("# group: ")
        elif line.startswith("# subgroup: "):
            subgroup = line.removeprefix("# subgroup: ")
        elif (match := _LINE.match(line)) and group != "Component":
            codes = without_presentation(int(part, 16) for part in match[1].split())
            found.append(Emoji(codes, match[2], group, subgroup))
    return found


def concept(name: str) -> str:
    """Return what an emoji shows, without skin tone, hair, gender, direction, colour, size and count.

    A flag of a country or region is a concept of its own.
    """
    if name.startswith("flag: "):
        return _SAME.get(name, name)
    words = re.split(r"[ -]+", re.split(": | showing ", name)[0])
    left = " ".join(word for word in words if not _VARIANT.fullmatch(word)) or "person"
    return _SAME.get(left, left)


class EmojiFont:
    """The colour bitmaps (table CBDT) of a font, found by code points."""

    def __init__(self, path: Path) -> None:
        """Open the font at `path`; raises MakeEmojiError for a file that has no colour bitmaps."""
        try:
            self._font = TTFont(path, lazy=True)
        except TTLibError as error:
            raise MakeEmojiError(f"{path}: not a font: {error}") from error
        if "CBDT" not in self._font:
            raise MakeEmojiError(f"{path}: has no colour bitmaps (table CBDT); use Noto Color Emoji")
        sizes = [strike.bitmapSizeTable.ppemY for strike in self._font["CBLC"].strikes]
        self._bitmaps = self._font["CBDT"].strikeData[sizes.index(max(sizes))]
        self._names = self._font.getBestCmap()
        self._joined = dict(self._ligatures())

    def _ligatures(self) -> Iterator[tuple[tuple[str, ...], str]]:
        lookups = self._font["GSUB"].table.LookupList.Lookup if "GSUB" in self._font else []
        for table in (table for lookup in lookups for table in lookup.SubTable):
            actual = getattr(table, "ExtSubTable", table)
            for first, ligatures in getattr(actual, "ligatures", {}).items():
                for ligature in ligatures:
                    yield (first, *ligature.Component), ligature.LigGlyph

    def glyph(self, codes: Sequence[int]) -> str | None:
        """Return the name of the glyph that shows `codes`; None if the font has no bitmap for them."""
        names = tuple(self._names.get(code, "") for code in codes)
        name = names[0] if len(names) == 1 else self._joined.get(names, "")
        return name if name in self._bitmaps else None

    def picture(self, glyph: str) -> Image.Image:
        """Return a glyph's bitmap, with its transparency."""
        with Image.open(io.BytesIO(self._bitmaps[glyph].imageData), formats=["PNG"]) as picture:
            return picture.convert("RGBA")

    def notice(self) -> str:
        """Return the font's name, version, copyright and licence, as the font states them."""
        names = self._font["name"]
        return "\n".join(text for number in (4, 5, 0, 13, 14) if (text := names.getDebugName(number)))


def on_white(picture: Image.Image) -> Image.Image:
    """Lay a picture over white; returns mode RGB."""
    clear = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")


def padded(picture: Image.Image, side: int) -> Image.Image:
    """Pad a picture with white to a square and scale it to `side` with Pillow's antialiased Lanczos filter."""
    return ImageOps.pad(picture, (side, side), method=Image.Resampling.LANCZOS, color="white")


def emoji_pictures(
    emoji: Iterable[Emoji], font: EmojiFont, side: int, class_of: Callable[[Emoji], str] = lambda one: one.group
) -> Iterator[Picture]:
    """Draw each emoji that has a bitmap."""
    for one in emoji:
        glyph = font.glyph(one.codes)
        if glyph is not None:
            yield _picture(one, "", font.picture(glyph), side, class_of)


def drawn_pictures(
    emoji: Iterable[Emoji], drawings: Drawings, side: int, class_of: Callable[[Emoji], str]
) -> Iterator[Picture]:
    """Draw each emoji that the package has, without its variants of skin tone. Raises DrawingsError."""
    for one in emoji:
        svg = None if _SKIN_TONES & set(one.codes) else drawings.svg(one.codes, one.name)
        if svg is None:
            continue
        if (picture := drawn(svg)) is None:
            print(f"{drawings.name}: left out {one.name}, which rsvg-convert cannot draw", file=sys.stderr)
        else:
            yield _picture(one, f"-{drawings.name}", picture, side, class_of)


def _picture(one: Emoji, suffix: str, picture: Image.Image, side: int, class_of: Callable[[Emoji], str]) -> Picture:
    file_name = "-".join(f"{code:04x}" for code in one.codes) + suffix + ".png"
    return Picture(class_of(one), concept(one.name), file_name, padded(on_white(picture), side), one.name)


def held_out(pictures: Iterable[Picture], share: float = TEST_SHARE) -> set[str]:
    """Choose the concepts of the test split: about `share` of the pictures of each class.

    It tries the concepts in the order of their SHA-256 digests, which looks random and never changes. A concept that
    would make the test split of its class too large stays in the train split. So does at least one concept of a class.
    """
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    home: dict[str, str] = {}
    for picture in pictures:
        counts[home.setdefault(picture.concept, picture.class_name)][picture.concept] += 1
    chosen = set()
    for concepts in counts.values():
        room = min(max(1.0, share * sum(concepts.values())), sum(concepts.values()) - min(concepts.values()))
        for name in sorted(concepts, key=lambda name: hashlib.sha256(name.encode()).hexdigest()):
            if concepts[name] <= room:
                room -= concepts[name]
                chosen.add(name)
    return chosen


def distinct(pictures: Iterable[Picture]) -> list[Picture]:
    """Leave out pictures with the pixels of an earlier one: fonts and collections hold some drawings several times."""
    found: dict[bytes, Picture] = {}
    for picture in pictures:
        found.setdefault(picture.image.tobytes(), picture)
    return list(found.values())


def write_folders(out: Path, pictures: Iterable[Picture], notice: str) -> dict[str, dict[str, int]]:
    """Write `train/CLASS/*.png`, `test/CLASS/*.png`, `pictures.csv` and `LICENSE.txt` to the new or empty folder `out`.

    Pictures with equal pixels are written once. Returns the number of pictures of each class in each split. Raises
    MakeEmojiError if the folder has files.
    """
    if out.exists() and any(out.iterdir()):
        raise MakeEmojiError(f"{out}: is not empty; name a new folder")
    pictures = distinct(pictures)
    test = held_out(pictures)
    counts: dict[str, dict[str, int]] = {"train": defaultdict(int), "test": defaultdict(int)}
    out.mkdir(parents=True, exist_ok=True)
    with (out / "pictures.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("file", "class", "concept", "name"))
        for picture in pictures:
            split = "test" if picture.concept in test else "train"
            path = out / split / picture.class_name / picture.file_name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.image.save(path, "PNG", optimize=True)
            counts[split][picture.class_name] += 1
            rows.writerow((path.relative_to(out), picture.class_name, picture.concept, picture.title))
    (out / "LICENSE.txt").write_text(notice, encoding="utf-8")
    return counts


def table(counts: dict[str, dict[str, int]]) -> str:
    """Return the lines that tell the user how many pictures each class has."""
    lines = [
        f"{name:<20} {counts['train'].get(name, 0):>6} train {counts['test'].get(name, 0):>6} test"
        for name in sorted({*counts["train"], *counts["test"]})
    ]
    total = {split: sum(of_class.values()) for split, of_class in counts.items()}
    return "\n".join([*lines, f"{'all':<20} {total['train']:>6} train {total['test']:>6} test"])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split(":")[0] + ".")
    parser.add_argument("out", type=Path, help="a new or empty folder")
    parser.add_argument("--side", type=int, default=32, help="side of the pictures in pixels (default: 32)")
    parser.add_argument("--font", type=Path, default=FONT, help=f"a font with colour bitmaps (default: {FONT})")
    parser.add_argument("--list", type=Path, default=LIST, help=f"Unicode's list of emoji (default: {LIST})")
    parser.add_argument(
        "--classes", choices=("groups", "everyday"), default="groups", help="Unicode's nine groups, or finer classes"
    )
    parser.add_argument(
        "--drawings",
        type=Path,
        nargs="+",
        default=[],
        metavar="FOLDER",
        help="packages of SVG drawings in the Iconify format, which add pictures (needs Debian's librsvg2-bin)",
    )
    arguments = parser.parse_args(argv)
    if arguments.side < 1:
        parser.error(f"--side {arguments.side}: must be at least 1")
    for path, package in ((arguments.font, "fonts-noto-color-emoji"), (arguments.list, "unicode-data")):
        if not path.is_file():
            parser.error(f"{path}: no such file; install Debian's package {package}, or name another file")
    try:
        font, packages = EmojiFont(arguments.font), [Drawings(folder) for folder in arguments.drawings]
        emoji, side = emoji_list(arguments.list.read_text("utf-8")), arguments.side
        class_of = Emoji.everyday if arguments.classes == "everyday" else attrgetter("group")
        pictures = itertools.chain(
            emoji_pictures(emoji, font, side, class_of),
            *(drawn_pictures(emoji, package, side, class_of) for package in packages),
        )
        notice = "\n".join([NOTICE, font.notice(), *(package.licence for package in packages)])
        print(table(write_folders(arguments.out, pictures, f"{notice}\n")))
    except (MakeEmojiError, DrawingsError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
