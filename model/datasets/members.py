"""Named members of a data set that comes as a tar archive or as the folder it unpacks to.

Archive members are read into memory by name and never extracted, so a path inside an archive reaches no disk.
"""

import lzma
import tarfile
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from model.datasets.dataset import DatasetError
from model.datasets.decoded import check_size

Variant = Collection[str]
"""File names that make one published version of a data set complete."""


def _incomplete(path: Path, found: Collection[str], variants: Sequence[Variant]) -> DatasetError:
    closest = max(variants, key=lambda names: len(set(names) & set(found)))
    return DatasetError(f"{path}: lacks {', '.join(sorted(set(closest) - set(found)))}")


def _complete(found: Collection[str], variants: Sequence[Variant]) -> Variant | None:
    return next((names for names in variants if set(names) <= set(found)), None)


def _folder(path: Path, variants: Sequence[Variant]) -> dict[str, Path]:
    """Files of the first complete variant, in `path` or in one folder directly below it."""
    wanted = set().union(*variants)
    best: dict[str, Path] = {}
    for folder in (path, *sorted(child for child in path.iterdir() if child.is_dir())):
        found = {name: folder / name for name in wanted if (folder / name).is_file()}
        complete = _complete(found, variants)
        if complete is not None:
            return {name: found[name] for name in complete}
        best = max(best, found, key=len)
    raise _incomplete(path, best, variants)


def _archive(path: Path, variants: Sequence[Variant]) -> dict[str, bytes]:
    wanted = set().union(*variants)
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if name not in wanted or not member.isfile():
                    continue
                if name in found:
                    raise DatasetError(f"{path}: holds {name} twice")
                check_size(member.size, f"{path}: {name}")
                content = archive.extractfile(member)
                found[name] = content.read() if content is not None else b""
                complete = _complete(found, variants)
                if complete is not None:  # the rest (2.7 GB in STL-10) need not be decompressed
                    return {name: found[name] for name in complete}
    except DatasetError:
        raise
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError) as error:
        raise DatasetError(f"{path}: not a readable tar archive, or truncated: {error}") from error
    raise _incomplete(path, found, variants)


def member_files(path: Path, variants: Sequence[Variant]) -> list[Path]:
    """The files that `read_members` would read: the archive itself, or the members in the folder.

    Raises DatasetError when nothing is there or the folder lacks members.
    """
    if path.is_dir():
        return sorted(_folder(path, variants).values())
    if not path.is_file():
        raise DatasetError(f"{path}: no such file or folder")
    return [path]


def read_members(path: Path, variants: Sequence[Variant]) -> dict[str, bytes]:
    """Contents, by file name, of the first variant that is complete in `path` (a tar archive or a folder).

    Raises DatasetError naming the archive when it cannot be read, and the members that are missing.
    """
    files = member_files(path, variants)
    if not path.is_dir():
        return _archive(path, variants)
    contents = {}
    for file in files:
        try:
            check_size(file.stat().st_size, str(file))
            contents[file.name] = file.read_bytes()
        except OSError as error:
            raise DatasetError(f"{file}: {error.strerror}") from error
    return contents
