"""Numbers of things read as people write them."""

import pytest

from darkroom.model.words import several


@pytest.mark.parametrize(
    ("number", "thing", "text"),
    [(1, "image", "1 image"), (0, "image", "0 images"), (2000, "image", "2,000 images"), (3, "class", "3 classes")],
)
def test_one_thing_has_no_plural(number: int, thing: str, text: str) -> None:
    assert several(number, thing) == text
