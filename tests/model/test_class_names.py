"""Laws of messages about classes: they help, and stay short however many classes there are and whatever their names."""

import re

import pytest

from darkroom.model.class_names import MOST_TOLD, ClassNotFound, find_class
from darkroom.model.datasets.dataset import DatasetError
from darkroom.model.datasets.decoded import agreed_class_names


@pytest.mark.parametrize(
    ("reference", "undrawn"),
    [("nothing", ()), ("class 0", (0,)), ("SAME", ())],
    ids=["unknown", "undrawn", "ambiguous"],
)
def test_an_error_names_the_first_classes_and_how_many_more_there_are(reference: str, undrawn: tuple[int, ...]) -> None:
    alike = [f"{'s' if number % 2 else 'S'}ame" for number in range(2)] * 2000
    names = alike if reference == "SAME" else [f"class {number}" + "x" * (number % 5) * 300 for number in range(4000)]
    with pytest.raises(ClassNotFound) as refused:
        find_class(names, reference, undrawn)
    assert len(str(refused.value)) < 110 * MOST_TOLD + 200
    assert f" and {len(names) - len(undrawn) - MOST_TOLD} more" in str(refused.value)


def test_a_few_classes_are_all_named() -> None:
    with pytest.raises(ClassNotFound, match=r"name one of cat, dog, or an index 0\.\.1"):
        find_class(["cat", "dog"], "cow")


def test_a_data_set_with_other_classes_than_configured_names_a_few_of_each() -> None:
    carried, configured = (tuple(f"{prefix}{number}" for number in range(4000)) for prefix in ("a", "b"))
    with pytest.raises(DatasetError) as refused:
        agreed_class_names(carried, configured, "data")
    assert re.fullmatch(
        r"data: its classes are a0, .* and 3980 more, not class_names b0, .* and 3980 more", str(refused.value)
    )
    assert len(str(refused.value)) < 400
