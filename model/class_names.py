"""Finds the class that somebody means by a name or a number."""

from collections.abc import Collection, Sequence

from darkroom.model.user_error import UserError

MOST_TOLD = 20


class ClassNotFound(UserError, LookupError):
    """No class, or more than one, is called so; the message names classes that there are."""


def find_class(names: Sequence[str], reference: int | str, undrawn: Collection[int] = ()) -> int:
    """Return the index of the class with this exact name, else this name in any case, else this index.

    Names come first because a name may be a number: if there is a class "2", the integer 2 also means it. undrawn: the
    indices of classes without training images. Raises ClassNotFound.
    """
    index = _find(names, reference)
    if index in undrawn:
        drawn = listed([name for number, name in enumerate(names) if number not in undrawn])
        raise ClassNotFound(f"the model was trained on no image of the class {names[index]!r}; name one of {drawn}")
    return index


def listed(names: Sequence[str]) -> str:
    """Name the first classes, for a message. There may be thousands, and a name may be long."""
    more = f" and {len(names) - MOST_TOLD} more" if len(names) > MOST_TOLD else ""
    return ", ".join(name[:100] for name in names[:MOST_TOLD]) + more


def _find(names: Sequence[str], reference: int | str) -> int:
    text = str(reference)
    if text in names:
        return names.index(text)
    wanted = text.strip().casefold()
    alike = [index for index, name in enumerate(names) if name.casefold() == wanted]
    if len(alike) > 1:
        meant = listed([names[index] for index in alike])
        raise ClassNotFound(f"{text[:100]!r} may mean any of: {meant}; write the name in its exact case")
    indices = alike or [index for index in range(len(names)) if str(index) == wanted]
    if indices:
        return indices[0]
    classes = f"name one of {listed(names)}, or an index 0..{len(names) - 1}"
    raise ClassNotFound(f"there is no class {text[:100]!r}; {classes}")
