"""Feeds damaged files to each parser that reads bytes from outside: each must answer, or refuse with its own error.

`python -m tests.fuzzing` prints what it tried and found. An input depends only on the parser's name, the run's seed and
its number, so that `--parser NAME --seed SEED --first NUMBER --inputs 1` makes it again.
"""

import argparse
import gzip
import io
import json
import random
import resource
import secrets
import signal
import struct
import sys
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from darkroom.app.generation.verification import described
from darkroom.app.http.problems import Problem
from darkroom.model.checkpoint import CheckpointError, decode_checkpoint
from darkroom.model.config import DatasetConfig, RecipeError, SamplingConfig, load_recipe, parse_recipe
from darkroom.model.datasets import DatasetError
from darkroom.model.datasets.archive_limits import ArchiveLimits
from darkroom.model.datasets.decoded import Decoded
from darkroom.model.datasets.encoded import decode as decode_encoded
from darkroom.model.datasets.encoded import encode
from darkroom.model.datasets.load import decode_dataset
from darkroom.model.images.described_png import DescribedPng, NotDescribed, described_png
from darkroom.model.provenance import Provenance
from tests.app.served import tiny_weights

MEMORY_BYTES = 2 << 30
"""Most memory that an input may take: a picture may have 100 million pixels."""
CPU_SECONDS = 30.0
"""Most processor time of an input."""

Parts = dict[str, bytes]
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1)
TOKENS = (
    b"..",
    b"/",
    b"\\",
    b"\0",
    b"NaN",
    b"-1",
    b"1e999",
    b"9" * 400,
    b"null",
    b"[" * 200,
    b"\xff\xfe",
    b"|O",
    b"|S0",
)


class TooSlow(Exception):
    """An input took more processor time than any input may."""


@dataclass(frozen=True)
class Parser:
    """A parser. parts: what a good file is made of. pack: makes a file of its parts, with its sums and sizes right.

    parse: reads a file; raises one of `refusals` for a bad one.
    """

    parts: Parts
    pack: Callable[[Mapping[str, bytes]], bytes]
    parse: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]

    def input(self, seed: str) -> bytes:
        """Return a damaged file: damaged in its parts, whose sums are then right, or as a whole."""
        choose = random.Random(seed)
        parts = dict(self.parts)
        if choose.random() < 0.7:
            for _ in range(choose.choice((1, 1, 1, 2, 3))):
                name = choose.choice(sorted(parts))
                if choose.random() < 0.15:
                    other = mutated(name.encode(errors="surrogateescape"), choose).decode(errors="surrogateescape")
                    parts[other] = parts.pop(name)
                else:
                    parts[name] = mutated(parts[name], choose)
            return self._packed(parts)
        return mutated(self.pack(parts), choose)

    def _packed(self, parts: Mapping[str, bytes]) -> bytes:
        try:
            return self.pack(parts)
        except (ValueError, LookupError, struct.error):  # no file of this format can hold these parts
            return self.pack(self.parts)


def mutated(content: bytes, choose: random.Random) -> bytes:
    """Return the content with one to four changes."""
    data = bytearray(content)
    for _ in range(choose.choice((1, 1, 2, 4))):
        place = choose.randrange(len(data) + 1)
        length = choose.choice((1, 2, 4, 8, 16, choose.randrange(len(data) + 1)))
        match choose.randrange(7):
            case 0 if place < len(data):
                data[place] ^= 1 << choose.randrange(8)
            case 1:
                width, order = choose.choice((1, 2, 4, 8)), choose.choice(("little", "big"))
                number = choose.choice(NUMBERS) & ((1 << 8 * width) - 1)
                data[place : place + width] = number.to_bytes(width, "little" if order == "little" else "big")
            case 2:
                del data[place : place + length]
            case 3:
                data[place:place] = data[place : place + length] * choose.choice((1, 1, 50))
            case 4:
                data[place:place] = choose.choice(TOKENS)
            case 5:
                data[place : place + length] = choose.randbytes(length)
            case _:
                del data[place:]
    return bytes(data)


def _zip(parts: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in parts.items():
            archive.writestr(name, gzip.compress(content, 1) if name.endswith(".gz") else content)
    return buffer.getvalue()


def _tar(parts: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in parts.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), 1)


def _alone(parts: Mapping[str, bytes]) -> bytes:
    return b"".join(parts.values())


def _safetensors(parts: Mapping[str, bytes]) -> bytes:
    return len(parts["header"]).to_bytes(8, "little") + parts["header"] + parts["data"]


def _safetensors_parts(content: bytes) -> Parts:
    end = 8 + int.from_bytes(content[:8], "little")
    return {"header": content[8:end], "data": content[end:]}


def _png(parts: Mapping[str, bytes]) -> bytes:
    chunks = b""
    for name, content in parts.items():
        kind = name.encode("latin-1")[:4].ljust(4)
        chunks += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return b"\x89PNG\r\n\x1a\n" + chunks


def _png_parts(content: bytes) -> Parts:
    parts, place = {}, 8
    while place < len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        parts[kind.decode()] = content[place + 8 : place + 8 + length]
        place += 12 + length
    return parts


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _picture(form: str, mode: str = "RGB") -> bytes:
    buffer, pixels = io.BytesIO(), np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, form)
    return buffer.getvalue()


def _pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def _dataset(form: str, file: Path, content: bytes, **fields: Any) -> None:
    file.write_bytes(content)
    decode_dataset(DatasetConfig.model_validate({"format": form, "path": file, **fields}), ArchiveLimits())


def _png_file(content: bytes) -> None:
    png = DescribedPng(content)
    found = described(png.facts)
    if found.drawn < 100:  # the service refuses more images than one request may draw
        assert len(found.rows(SamplingConfig())) == found.drawn
    if png.size[0] * png.size[1] < 10_000:  # the service reads pixels only where the size is right
        png.pixels(1)


def _encoded(file: Path, digest: str, content: bytes) -> None:
    file.write_bytes(content)
    with file.open("rb") as opened:
        decode_encoded(opened, digest, "the file")


def _recipe(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    load_recipe(file)


def _json_recipe(content: bytes) -> None:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RecipeError("no JSON") from error
    parse_recipe(data, source="the body")


def _facts() -> dict[str, Any]:
    settings = Provenance(id="1", model="tiny", version="sha256:" + "0" * 64, seed=7).model_dump(exclude={"id"})
    return settings | {"n": 2, "class_indices": [0, 1], "index": 1, "class_index": 0, "class": "a"}


def parsers(folder: Path) -> dict[str, Parser]:
    """Return all parsers by name. folder: for the files that they read."""
    file = folder / "input"
    idx = {
        "images-idx3-ubyte": struct.pack(">4I", 0x803, 4, 6, 6) + _pixels(4, 6, 6).tobytes(),
        "labels-idx1-ubyte": struct.pack(">2I", 0x801, 4) + bytes((0, 1, 1, 0)),
    }
    names = "\n".join("abcdefghij").encode()
    cifar = {f"data_batch_{number}.bin": bytes([number]) + bytes(_pixels(3072)) for number in range(1, 6)}
    cifar |= {"test_batch.bin": cifar["data_batch_1.bin"], "batches.meta.txt": names}
    stl = {"train_X.bin": bytes(_pixels(2 * 27648)), "train_y.bin": bytes((1, 2)), "class_names.txt": names}
    npz = {"images.npy": _npy(_pixels(4, 6, 6)), "labels.npy": _npy(np.array([0, 1, 1, 0]))}
    pictures = {
        f"{'ab'[number % 2]}/{number}.{form.lower()}": _picture(form)
        for number, form in enumerate(("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"))
    }
    encoded = io.BytesIO()
    digest = encode(Decoded(_pixels(4, 1, 6, 6), np.array([0, 1, 1, 0]), ("a", "b")), encoded)
    recipe = yaml.safe_load((Path(__file__).parent.parent / "recipes" / "digits.yaml").read_text(encoding="utf-8"))

    def read(form: str, **fields: Any) -> Callable[[bytes], object]:
        return partial(_dataset, form, file, **fields)

    data = (DatasetError,)
    return {
        "zip": Parser({**pictures, "a/note.txt": b"hello"}, _zip, read("zip", image_size=8), data),
        "zip of splits": Parser(
            {"out/train/a/1.png": _picture("PNG", "L"), "out/test/a/1.png": _picture("PNG", "LA")},
            partial(_zip, method=zipfile.ZIP_STORED),
            read("zip", split="all", skip_damaged=True),
            data,
        ),
        "png": Parser(
            _png_parts(_picture("PNG", "P")), lambda parts: _zip({"a/1.png": _png(parts)}), read("zip"), data
        ),
        "npz": Parser({**npz, "class_names.npy": _npy(np.array(["a", "b"]))}, _zip, read("npz", image_size=8), data),
        "idx": Parser(
            {f"train-{name}.gz": content for name, content in idx.items()}, _zip, read("idx", image_size=8), data
        ),
        "idx in tar": Parser({f"t/train-{name}": content for name, content in idx.items()}, _tar, read("idx"), data),
        "cifar10": Parser(cifar, _tar, read("cifar10"), data),
        "cifar10 in zip": Parser(cifar, _zip, read("cifar10", split="all"), data),
        "stl10": Parser(stl, _zip, read("stl10"), data),
        "encoded data set": Parser(
            _safetensors_parts(encoded.getvalue()), _safetensors, partial(_encoded, file, digest), data
        ),
        "weights": Parser(
            _safetensors_parts(tiny_weights()),
            _safetensors,
            partial(decode_checkpoint, source="the file"),
            (CheckpointError,),
        ),
        "described png": Parser(
            _png_parts(described_png(_pixels(6, 6, 1), _facts())), _png, _png_file, (NotDescribed, Problem)
        ),
        "yaml recipe": Parser(
            {"recipe": yaml.safe_dump(recipe).encode()}, _alone, partial(_recipe, file), (RecipeError,)
        ),
        "json recipe": Parser({"recipe": json.dumps(recipe).encode()}, _alone, _json_recipe, (RecipeError,)),
    }


def _stop(*_: object) -> None:
    raise TooSlow(f"took more than {CPU_SECONDS:g} s of processor time")


@contextmanager
def limited() -> Iterator[None]:
    """Limit this process's memory in the block, and let `SIGPROF` raise TooSlow."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGPROF, _stop)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES, before[1]))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGPROF, handler)


def tried(parser: Parser, content: bytes) -> str:
    """Parse an input. Returns "read" or "refused"; raises what no parser may raise."""
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        parser.parse(content)
    except parser.refusals:
        return "refused"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
    return "read"


def main(arguments: list[str] | None = None) -> int:
    """Try many inputs; returns 1 if one was neither read nor refused."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--inputs", type=int, default=100_000, help="inputs in all")
    options.add_argument("--parser", help="only this one")
    options.add_argument("--seed", default=secrets.token_hex(4))
    options.add_argument("--first", type=int, default=0, help="number of the first input of each parser")
    given = options.parse_args(arguments)
    faults = 0
    with tempfile.TemporaryDirectory() as folder, limited():
        found = {name: one for name, one in parsers(Path(folder)).items() if given.parser in (None, name)}
        print(f"seed {given.seed}", flush=True)
        for name, parser in found.items():
            ends: Counter[str] = Counter()
            for number in range(given.first, given.first + max(1, given.inputs // len(found))):
                content = parser.input(f"{given.seed} {name} {number}")
                try:
                    ends[tried(parser, content)] += 1
                except Exception as error:
                    ends["faults"] += 1
                    print(f"{name}: input {number}: {type(error).__name__}: {error}"[:500], file=sys.stderr)
            faults += ends["faults"]
            print(f"{name}: {ends['read']:,} read, {ends['refused']:,} refused, {ends['faults']:,} faults", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
