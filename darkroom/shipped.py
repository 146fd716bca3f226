"""The weights and recipes that come with Darkroom, by name."""

from pathlib import Path

from darkroom.model.user_error import UserError

_HERE = Path(__file__).resolve().parent


def shipped_file(reference: str | Path, folder: str, suffix: str, kind: str) -> Path:
    """Return the shipped file of that name in `folder`, or else the file at that path.

    suffix: how the names of such files end. kind: what such a file holds, for messages.
    Raises UserError, which lists the names, for a text that is neither a shipped name nor the path of a file.
    """
    if not isinstance(reference, str | Path):
        raise UserError(f"the {kind} is {reference!r}: give a name or a path, as text or as a Path")
    shipped = {path.stem: path for path in sorted((_HERE / folder).glob(f"*{suffix}"))}
    if reference in shipped:
        return shipped[str(reference)]
    path = Path(reference)
    if isinstance(reference, Path) or path.suffix == suffix or path.exists():
        return path
    raise UserError(
        f"there is no {kind} {str(reference)!r}: name a shipped one ({', '.join(shipped)}), or give the path of a "
        f"{suffix} file"
    )
