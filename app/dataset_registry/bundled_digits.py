"""Registers scikit-learn's digits when the first job needs them."""

import numpy as np
from sqlalchemy.orm import Session

from darkroom.model.config import DatasetConfig
from darkroom.model.datasets.contact_sheet import contact_sheet
from darkroom.model.datasets.load import decode_dataset
from darkroom.model.datasets.materialise import content_digest
from darkroom.store.dataset_repository import DatasetConflict, DatasetFacts, register_dataset
from darkroom.store.tables import Dataset

BUNDLED = DatasetConfig(format="digits")


def register_digits(session: Session) -> Dataset:
    """Register the data set `digits`, or `bundled-digits` when somebody's own data set has that name.

    Raises DatasetError without scikit-learn, and DatasetConflict when both names are taken.
    """
    decoded = decode_dataset(BUNDLED)
    counts = np.bincount(decoded.labels, minlength=len(decoded.class_names))
    facts = DatasetFacts(
        format=BUNDLED.format,
        digest=content_digest(decoded.images, decoded.labels, decoded.class_names),
        class_names=decoded.class_names,
        class_counts=[int(count) for count in counts],
        image_channels=decoded.images.shape[1],
        image_size=decoded.images.shape[2],
    )
    sheet = contact_sheet(decoded)
    try:
        return register_dataset(session, "digits", facts, BUNDLED, sheet).dataset
    except DatasetConflict:
        return register_dataset(session, "bundled-digits", facts, BUNDLED, sheet).dataset
