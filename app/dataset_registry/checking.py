"""Checks a registered data set, alone or against another one, such as its test split."""

from collections.abc import Sequence
from functools import reduce
from operator import itemgetter

import numpy as np

from darkroom.app.dataset_registry.schemas import AlikeAnswer, CheckAnswer, PictureAnswer
from darkroom.app.dataset_registry.stored_images import open_images
from darkroom.app.http.problems import invalid
from darkroom.app.settings import Settings
from darkroom.model.datasets.check import joined_looks, look, look_alikes, outliers
from darkroom.model.progress import OnProgress
from darkroom.model.words import named, several
from darkroom.store.database import Database
from darkroom.store.tables import Dataset

MOST_IMAGES = 300_000
"""A check keeps about a kilobyte of each image in memory."""
MOST_LISTED = 50
"""Most groups and pictures that an answer lists of a kind."""
MOST_OF_GROUP = 10
UNEQUAL = 10.0
"""Ratio of the largest and the smallest class above which the classes are called unequal."""
FEWEST_OF_CLASS = 20


def check(
    database: Database, settings: Settings, dataset: Dataset, against: Dataset | None, on_progress: OnProgress
) -> CheckAnswer:
    """Check a data set. against: another one, whose repeated pictures are listed too. Raises Problem for large ones."""
    datasets = [dataset] if against is None else [dataset, against]
    if sum(one.image_count for one in datasets) > MOST_IMAGES:
        raise invalid([("name", f"a check looks at no more than {MOST_IMAGES} images")])
    opened = [open_images(database, settings, one, on_progress) for one in datasets]
    parts = [look(len(stored.labels), stored.images, on_progress) for stored in opened]
    on_progress("looking for repeated pictures", 0, None)
    first, looks = parts[0], reduce(joined_looks, parts)
    count = len(first.flat)

    def picture(number: int) -> PictureAnswer:
        own, index = (0, number) if number < count else (1, number - count)
        name = datasets[own].class_names[int(opened[own].labels[index])]
        return PictureAnswer(dataset=datasets[own].name, index=index, class_=name)

    def alike(group: Sequence[int]) -> AlikeAnswer:
        pictures = [picture(number) for number in group]
        return AlikeAnswer(
            count=len(group),
            identical=len({looks.contents[number] for number in group}) == 1,
            several_classes=len({one.class_ for one in pictures}) > 1,
            both_datasets=group[0] < count <= group[-1],
            pictures=pictures[:MOST_OF_GROUP],
        )

    groups = [alike(group) for group in look_alikes(looks) if group[0] < count]
    groups.sort(key=lambda one: (not one.several_classes, not one.both_datasets, -one.count))
    flat, unlike = np.flatnonzero(first.flat).tolist(), outliers(first, opened[0].labels, on_progress)
    answer = CheckAnswer(
        dataset=dataset.name,
        digest=dataset.digest,
        against=None if against is None else against.name,
        images=count,
        alike_groups=len(groups),
        alike=groups[:MOST_LISTED],
        unlike_count=len(unlike),
        unlike=[picture(number) for number in unlike[:MOST_LISTED]],
        flat_count=len(flat),
        flat=[picture(number) for number in flat[:MOST_LISTED]],
        findings=[],
    )
    counts = dict(zip(dataset.class_names, dataset.class_counts, strict=True))
    findings = [*_class_findings(counts), *_findings(answer, groups)]
    return answer.model_copy(update={"findings": findings or ["Nothing was found that needs a change."]})


def _class_findings(counts: dict[str, int]) -> list[str]:
    """Return what is to say about the classes' sizes."""
    present = {name: count for name, count in counts.items() if count}
    largest, smallest = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
    found = []
    if len(present) < len(counts):
        found.append(f"{several(len(counts) - len(present), 'class')} without images: no model can learn to draw them.")
    if present[largest] > UNEQUAL * present[smallest]:
        found.append(
            f"The classes are unequal: {largest} has {present[largest]:,} images, {smallest} {present[smallest]:,}. "
            "A model draws the small ones worse; add pictures to them or join them."
        )
    elif present[smallest] < FEWEST_OF_CLASS:
        by_size = sorted(present.items(), key=itemgetter(1))
        few = [f"{name} ({count})" for name, count in by_size if count < FEWEST_OF_CLASS]
        found.append(f"Classes with fewer than {FEWEST_OF_CLASS} images: {named(few)}. Add some.")
    return found


def _findings(answer: CheckAnswer, groups: Sequence[AlikeAnswer]) -> list[str]:
    counts = (
        (
            sum(group.count - 1 for group in groups),
            "look like another one",
            "A model may learn them by heart: remove them",
        ),
        (
            sum(group.several_classes for group in groups),
            "are in more than one class",
            "One of the classes is wrong: remove them there",
        ),
        (
            sum(group.both_datasets for group in groups),
            f"are also in {answer.against}",
            "Figures measured on it would be too good: remove them from one",
        ),
        (answer.unlike_count, "are unlike the others of their class", "Look at them"),
        (answer.flat_count, "have one colour only", "Remove them"),
    )
    return [f"Pictures that {what}: {count:,}. {advice}." for count, what, advice in counts if count]
