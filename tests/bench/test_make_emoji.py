"""Laws of recipes/make_emoji.py, on a small font that the tests build: no variant of a picture is in both splits."""

import csv
import io
import json
import sys
from pathlib import Path

import pytest
from fontTools.feaLib.builder import addOpenTypeFeaturesFromString
from fontTools.fontBuilder import FontBuilder
from fontTools.ttLib import newTable
from fontTools.ttLib.tables.BitmapGlyphMetrics import SmallGlyphMetrics
from fontTools.ttLib.tables.C_B_D_T_ import cbdt_bitmap_format_17
from fontTools.ttLib.tables.E_B_L_C_ import BitmapSizeTable, SbitLineMetrics, Strike, eblc_index_sub_table_1
from PIL import Image

from recipes.emoji_drawings import slug
from recipes.make_emoji import (
    EmojiFont,
    MakeEmojiError,
    Picture,
    concept,
    emoji_list,
    held_out,
    main,
    on_white,
    padded,
    write_folders,
)

LIST = """\
# group: People & Body
# subgroup: hand-fingers-open
1F44B                    ; fully-qualified     # 👋 E0.6 waving hand
1F44B 1F3FB              ; fully-qualified     # 👋🏻 E1.0 waving hand: light skin tone
# subgroup: person-role
1F46E                    ; fully-qualified     # 👮 E0.6 police officer
1F575 FE0F               ; fully-qualified     # 🕵️ E0.7 detective
1F575                    ; unqualified         # 🕵 E0.7 detective
# group: Component
1F3FB                    ; component           # 🏻 E1.0 light skin tone
# group: Flags
# subgroup: flag
1F3C1                    ; fully-qualified     # 🏁 E0.6 chequered flag
# subgroup: country-flag
1F1E6 1F1E8              ; fully-qualified     # 🇦🇨 E2.0 flag: Ascension Island
"""
COLOURS = {"hand": "yellow", "light": "pink", "police": "blue", "detective": "brown", "chequered": "black"}
CODES = {0x1F44B: "hand", 0x1F3FB: "tone", 0x1F46E: "police", 0x1F575: "detective", 0x1F3C1: "chequered"}
FIELDS = (
    *("ascender", "descender", "widthMax", "caretSlopeNumerator", "caretSlopeDenominator", "caretOffset"),
    *("minOriginSB", "minAdvanceSB", "maxBeforeBL", "minAfterBL", "pad1", "pad2"),
)


def _bitmap(colour: str) -> cbdt_bitmap_format_17:
    """A square of 4 pixels on a transparent ground, 8 wide and 4 high."""
    picture = Image.new("RGBA", (8, 4), (0, 0, 0, 0))
    picture.paste(colour, (2, 0, 6, 4))
    file = io.BytesIO()
    picture.save(file, "PNG")
    glyph = cbdt_bitmap_format_17(b"", None)
    glyph.imageData = file.getvalue()
    glyph.metrics = SmallGlyphMetrics()
    for name, value in (("height", 4), ("width", 8), ("BearingX", 0), ("BearingY", 4), ("Advance", 8)):
        setattr(glyph.metrics, name, value)
    return glyph


def _size_table() -> BitmapSizeTable:
    size = BitmapSizeTable()
    for name in ("hori", "vert"):
        metrics = SbitLineMetrics()
        for field in FIELDS:
            setattr(metrics, field, 0)
        setattr(size, name, metrics)
    size.colorRef, size.startGlyphIndex, size.endGlyphIndex = 0, 1, len(COLOURS)
    size.ppemX = size.ppemY = 4
    size.bitDepth, size.flags = 32, 1
    return size


@pytest.fixture(scope="module")
def font(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A font with five bitmaps. Glyph `light` is the ligature of hand and skin tone."""
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef", *COLOURS, "tone"])
    builder.setupCharacterMap(CODES)
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *COLOURS, "tone"], (1000, 0)))
    builder.setupHorizontalHeader()
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular", "licenseDescription": "Free as air."})
    builder.setupOS2()
    builder.setupPost()
    addOpenTypeFeaturesFromString(builder.font, "feature ccmp { sub hand tone by light; } ccmp;")
    index = eblc_index_sub_table_1(b"", None)
    index.names, index.indexFormat, index.imageFormat = list(COLOURS), 1, 17
    index.firstGlyphIndex, index.lastGlyphIndex = 1, len(COLOURS)
    strike = Strike()
    strike.bitmapSizeTable, strike.indexSubTables = _size_table(), [index]
    places = builder.font["CBLC"] = newTable("CBLC")
    places.version, places.strikes = 3.0, [strike]
    bitmaps = builder.font["CBDT"] = newTable("CBDT")
    bitmaps.version, bitmaps.strikeData = 3.0, [{name: _bitmap(colour) for name, colour in COLOURS.items()}]
    path = tmp_path_factory.mktemp("font") / "squares.ttf"
    builder.save(path)
    return path


@pytest.mark.parametrize(
    "names",
    [
        ("astronaut", "woman astronaut: dark skin tone", "man astronaut"),
        ("person", "man: light skin tone, beard", "woman: red hair", "boy", "girl: medium skin tone"),
        ("family", "family: man, woman, boy"),
        ("kiss: woman, man", "kiss: person, person, light skin tone, dark skin tone"),
        ("men holding hands", "woman and man holding hands: light skin tone"),
        ("older person", "old woman: dark skin tone"),
        ("mermaid", "merman: light skin tone", "merperson"),
        ("left arrow", "up-right arrow", "up-down arrow"),
        ("magnifying glass tilted left", "magnifying glass tilted right"),
        ("leftwards hand: light skin tone", "rightwards hand"),
        ("one o’clock", "twelve-thirty"),
        ("red heart", "light blue heart", "black heart"),
        ("white medium-small square", "red square"),
        ("globe showing Americas", "globe showing Asia-Australia"),
        ("keycap: 1", "keycap: #"),
    ],
)
def test_variants_are_one_concept(names: tuple[str, ...]) -> None:
    assert len({concept(name) for name in names}) == 1


def test_other_pictures_are_other_concepts() -> None:
    names = (
        "grinning face",
        "woman astronaut",
        "woman pilot",
        "flag: France",
        "flag: Italy",
        "red apple",
        "black flag",
    )
    assert len({concept(name) for name in names}) == len(names)


def test_the_list_gives_fully_qualified_emoji_without_components_and_presentation_signs() -> None:
    found = emoji_list(LIST)
    assert [(one.name, one.group) for one in found] == [
        ("waving hand", "People & Body"),
        ("waving hand: light skin tone", "People & Body"),
        ("police officer", "People & Body"),
        ("detective", "People & Body"),
        ("chequered flag", "Flags"),
        ("flag: Ascension Island", "Flags"),
    ]
    assert found[3].codes == (0x1F575,)


def test_a_sequence_is_found_through_the_fonts_ligatures(font: Path) -> None:
    emoji = EmojiFont(font)
    assert emoji.glyph([0x1F44B]) == "hand"
    assert emoji.glyph([0x1F44B, 0x1F3FB]) == "light"
    assert emoji.glyph([0x1F44B, 0x1F44B]) is None
    assert emoji.glyph([0x1F3FB]) is None  # in the character map, without a bitmap
    assert emoji.glyph([0x41]) is None
    assert emoji.picture("police").getpixel((3, 1)) == (0, 0, 255, 255)


def test_a_picture_is_padded_with_white_and_transparent_pixels_become_white() -> None:
    wide = Image.new("RGBA", (8, 4), (255, 0, 0, 0))
    wide.paste("blue", (0, 0, 4, 4))
    square = padded(on_white(wide), 8)
    assert square.size == (8, 8)
    assert square.getpixel((1, 4)) == (0, 0, 255)
    assert square.getpixel((6, 4)) == square.getpixel((1, 0)) == square.getpixel((1, 7)) == (255, 255, 255)


def test_the_folders_hold_every_picture_once_and_each_concept_in_one_split(font: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(LIST)
    arguments = ["--side", "8", "--font", str(font), "--list", str(tmp_path / "list.txt")]
    for out in ("one", "two"):
        assert main([str(tmp_path / out), *arguments]) == 0
    files = {path.relative_to(tmp_path / "one"): path.read_bytes() for path in (tmp_path / "one").rglob("*.*")}
    assert files == {path.relative_to(tmp_path / "two"): path.read_bytes() for path in (tmp_path / "two").rglob("*.*")}
    rows = list(csv.DictReader((tmp_path / "one" / "pictures.csv").read_text("utf-8").splitlines()))
    assert {row["file"] for row in rows} == {str(name) for name in files if name.suffix == ".png"}
    assert [row["name"] for row in rows] == [one.name for one in emoji_list(LIST)[:5]]
    splits = {(row["concept"], row["file"].split("/")[0]) for row in rows}
    assert {name for name, _ in splits} == {"waving hand", "police officer", "detective", "chequered flag"}
    assert len(splits) == 4
    hands = [row["file"] for row in rows if row["concept"] == "waving hand"]
    assert hands == ["train/People & Body/1f44b.png", "train/People & Body/1f44b-1f3fb.png"]
    with Image.open(tmp_path / "one" / hands[1]) as picture:
        assert (picture.size, picture.mode, picture.getpixel((4, 4))) == ((8, 8), "RGB", (255, 192, 203))
    assert "Free as air." in (tmp_path / "one" / "LICENSE.txt").read_text()


def test_a_folder_with_files_is_not_written_to(font: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.txt").write_text(LIST)
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--font", str(font), "--list", str(tmp_path / "list.txt")])
    assert "is not empty; name a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["list.txt"]


def test_a_missing_font_names_the_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path / "out"), "--font", str(tmp_path / "none.ttf")])
    assert "install Debian's package fonts-noto-color-emoji" in capsys.readouterr().err


def test_a_side_below_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path / "out"), "--side", "0"])
    assert "--side 0: must be at least 1" in capsys.readouterr().err


def test_a_font_without_colour_bitmaps_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.ttf"
    path.write_bytes(b"no font")
    with pytest.raises(MakeEmojiError, match="not a font"):
        EmojiFont(path)
    builder = FontBuilder(1000)
    builder.setupGlyphOrder([".notdef"])
    builder.save(path)
    with pytest.raises(MakeEmojiError, match="no colour bitmaps"):
        EmojiFont(path)


def _pictures(**sizes: int) -> list[Picture]:
    image = Image.new("RGB", (1, 1))
    return [Picture("a", name, f"{name}-{n}.png", image) for name, size in sizes.items() for n in range(size)]


def test_the_test_split_has_its_share_and_no_concept_larger_than_it() -> None:
    pictures = _pictures(large=60, **{f"small{number}": 2 for number in range(20)})
    chosen = held_out(pictures, 0.1)
    assert "large" not in chosen
    assert sum(picture.concept in chosen for picture in pictures) == 10
    assert chosen == held_out(reversed(pictures), 0.1)


@pytest.mark.parametrize("sizes", [{"only": 1}, {"only": 9}, {"one": 1, "two": 1}])
def test_no_class_loses_its_last_concept_to_the_test_split(sizes: dict[str, int]) -> None:
    assert len(held_out(_pictures(**sizes), 1.0)) == len(sizes) - 1


def test_a_drawing_that_a_collection_holds_twice_is_written_once(tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (2, 2), colour) for colour in ("red", "blue"))
    pictures = [
        Picture("a", "one", "1.png", red),
        Picture("a", "two", "2.png", blue),
        Picture("b", "three", "3.png", red),
    ]
    counts = write_folders(tmp_path / "out", pictures, "")
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.png")) == ["1.png", "2.png"]
    assert sum(counts["train"].values()) + sum(counts["test"].values()) == 2


PROGRAM = """#!{python}
import re, sys
from PIL import Image
colour = re.search('fill="(.*?)"', sys.stdin.read())[1]
if colour == "none":
    sys.exit(1)
Image.new("RGBA", (128, 128), colour).save(sys.stdout.buffer, "PNG")
"""


def _package(folder: Path) -> Path:
    """A package of drawings: a hand and its dark variant, an alias of the hand, a flag and a picture that fails."""
    folder.mkdir()
    body = {"wave": "red", "waving-hand-dark-skin-tone": "brown", "flag-ascension-island": "blue", "detective": "none"}
    icons = {
        "prefix": "squares",
        "icons": {name: {"body": f'<path fill="{colour}"/>'} for name, colour in body.items()},
        "aliases": {"waving-hand": {"parent": "wave"}},
        "width": 32,
        "height": 32,
    }
    info = {
        "name": "Squares",
        "author": {"name": "Darkroom", "url": "https://squares.test"},
        "license": {"title": "MIT", "url": "https://squares.test/licence"},
    }
    (folder / "icons.json").write_text(json.dumps(icons))
    (folder / "info.json").write_text(json.dumps(info))
    return folder


@pytest.fixture
def drawing_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program in the place of rsvg-convert that fills the picture with the drawing's first colour."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "rsvg-convert"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))


@pytest.mark.usefixtures("drawing_program")
def test_drawings_add_pictures_without_skin_tones_and_their_licence(
    font: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.txt").write_text(LIST, encoding="utf-8")
    arguments = ["--font", str(font), "--list", str(tmp_path / "list.txt"), "--classes", "everyday", "--side", "8"]
    assert main([str(tmp_path / "out"), *arguments, "--drawings", str(_package(tmp_path / "package"))]) == 0
    files = {path.name: path for path in (tmp_path / "out").rglob("*-squares.png")}
    assert {path.parent.name + "/" + name for name, path in files.items()} == {
        "Hands/1f44b-squares.png",
        "Flags/1f1e6-1f1e8-squares.png",
    }
    assert Image.open(files["1f44b-squares.png"]).convert("RGB").getpixel((4, 4)) == (255, 0, 0)
    assert "left out detective" in capsys.readouterr().err
    notice = (tmp_path / "out" / "LICENSE.txt").read_text()
    assert "Free as air." in notice
    assert "Squares, Darkroom (https://squares.test), MIT (https://squares.test/licence)" in notice


@pytest.mark.usefixtures("drawing_program")
def test_a_concept_of_two_families_is_in_one_split(font: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(LIST, encoding="utf-8")
    arguments = ["--font", str(font), "--list", str(tmp_path / "list.txt"), "--side", "8"]
    assert main([str(tmp_path / "out"), *arguments, "--drawings", str(_package(tmp_path / "package"))]) == 0
    hands = {path.parent.parent.name for path in (tmp_path / "out").rglob("1f44b*.png")}
    assert len(hands) == 1


def test_a_folder_without_drawings_and_a_missing_program_are_told(
    font: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.txt").write_text(LIST, encoding="utf-8")
    arguments = [str(tmp_path / "out"), "--font", str(font), "--list", str(tmp_path / "list.txt"), "--drawings"]
    with pytest.raises(SystemExit):
        main([*arguments, str(tmp_path)])
    assert "is not a package of drawings" in capsys.readouterr().err
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit):
        main([*arguments, str(_package(tmp_path / "package"))])
    assert "install Debian's package librsvg2-bin" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("flag: Côte d’Ivoire", "flag-cote-divoire"),
        ("keycap: #", "keycap-number-sign"),
        ("flag: Bosnia & Herzegovina", "flag-bosnia-and-herzegovina"),
        ("woman: dark skin tone, red hair", "woman-dark-skin-tone-red-hair"),
    ],
)
def test_a_name_is_written_as_the_packages_write_it(name: str, written: str) -> None:
    assert slug(name) == written
