"""Registers scikit-learn's digits when the first job needs them."""

from sqlalchemy.orm import Session

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets.contact_sheet import contact_sheet
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.datasets.load import decode_dataset
from darkroom.model.datasets.materialise import content_digest
from darkroom.model.planning.data_facts import look_at
from darkroom.store.dataset_repository import DatasetConflict, DatasetFacts, register_dataset
from darkroom.store.tables import Dataset

BUNDLED = DatasetConfig(format="digits")


def register_digits(session: Session) -> Dataset:
    """Register the data set `digits`, or `bundled-digits` when somebody's own data set has that name.

    Raises DatasetError without scikit-learn, and DatasetConflict when both names are taken.
    """
    decoded = decode_dataset(BUNDLED)
    digest = content_digest(decoded.images, decoded.labels, decoded.class_names)
    found = look_at(ImageDataset(decoded.images, decoded.labels, decoded.class_names, digest))
    facts = DatasetFacts(
        format=BUNDLED.format,
        digest=digest,
        class_names=found.class_names,
        class_counts=found.class_counts,
        image_channels=found.channels,
        image_size=found.side,
        distinct_count=found.distinct,
        mirrors=found.mirrors,
        flat_grounds=found.flat_grounds,
    )
    sheet = contact_sheet(decoded)
    try:
        return register_dataset(session, "digits", facts, BUNDLED, sheet).dataset
    except DatasetConflict:
        return register_dataset(session, "bundled-digits", facts, BUNDLED, sheet).dataset
