"""Laws of messages about classes: they help, and stay short however many classes there are and whatever their names."""

import pytest

from darkroom.model.class_names import MOST_TOLD, ClassNotFound, find_class


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
