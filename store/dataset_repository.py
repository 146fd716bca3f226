"""Registered data sets: uploads with their bytes in the artifact store, and paths that the workers see."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from sqlalchemy import select, true, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from darkroom.model.config import DatasetConfig
from darkroom.store.artifacts import Artifacts
from darkroom.store.owners import Owner, owned, require_owned
from darkroom.store.tables import Dataset

MOST_NAME_LETTERS = 100


class DatasetNotFound(LookupError):
    """No data set has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no data set {name!r}")
        self.name = name


class DatasetConflict(ValueError):
    """The name belongs to another data set. detail: how that one differs, for the message."""

    def __init__(self, name: str, detail: str = "") -> None:
        super().__init__(f"the data set {name!r} exists{detail}")
        self.name = name


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """Facts of a data set's content. digest: see `model.datasets.ImageDataset.digest`.

    class_counts: images of each class, in the order of class_names. image_size: side in pixels.
    distinct_count, mirrors, flat_grounds: as in `model.planning.data_facts.DataFacts`; None where nobody has looked.
    reading: what was found beside the images, as JSON.
    """

    format: str
    digest: str
    class_names: Sequence[str]
    class_counts: Sequence[int]
    image_channels: int
    image_size: int
    distinct_count: int | None = None
    mirrors: Sequence[bool] | None = None
    flat_grounds: float | None = None
    reading: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Registered:
    """A data set's record. created: True when it is new."""

    dataset: Dataset
    created: bool


@dataclass(frozen=True, slots=True)
class DatasetPage:
    """One page of data sets by name. next_after: pass it as `after` for the next page; None on the last."""

    datasets: tuple[Dataset, ...]
    next_after: str | None


def register_dataset(
    session: Session,
    name: str,
    facts: DatasetFacts,
    source: BinaryIO | DatasetConfig,
    contact_sheet: bytes,
    *,
    replace: bool = False,
    api_key_id: int | None = None,
    owner: Owner | None = None,
) -> Registered:
    """Give content a name. The same name and content again return the existing record and change nothing.

    replace: content that has the name already becomes an earlier version and gets another name; its jobs keep it.
    source: the encoded file (`model/datasets/encoded.py`) of an upload, kept as an artifact; or how to read a path.
    contact_sheet: PNG. name: 1 to 100 characters; anything else raises sqlalchemy.exc.IntegrityError.
    api_key_id: owns a new data set. owner: who registers it; None for somebody who may use all data sets.
    Raises OwnedByAnother, and DatasetConflict when the name has other content, or the earlier version's name is taken.
    """
    known = _named(session, name, lock=replace)
    if known is not None:
        require_owned(session, known, owner)
    if known is not None and (not replace or known.digest == facts.digest):  # check before storing bytes in vain
        return _same(known, facts)
    if known is not None:
        rename_dataset(session, name, _earlier_name(known))
    artifacts = Artifacts(session)
    if isinstance(source, DatasetConfig):
        origin: dict[str, Any] = {"configuration": source.model_dump(mode="json")}
    else:
        origin = {"artifact_digest": artifacts.put_file(source)}
    identifier = session.scalar(
        upsert(Dataset)
        .values(
            name=name,
            format=facts.format,
            digest=facts.digest,
            class_names=list(facts.class_names),
            class_counts=list(facts.class_counts),
            image_count=sum(facts.class_counts),
            image_channels=facts.image_channels,
            image_size=facts.image_size,
            distinct_count=facts.distinct_count,
            mirrors=None if facts.mirrors is None else all(facts.mirrors),
            mirrored=None if facts.mirrors is None else list(facts.mirrors),
            flat_grounds=facts.flat_grounds,
            contact_sheet_digest=artifacts.put(contact_sheet),
            version=1 if known is None else known.version + 1,
            reading=facts.reading,
            api_key_id=api_key_id if known is None else known.api_key_id,
            **origin,
        )
        .on_conflict_do_nothing(index_elements=[Dataset.name])
        .returning(Dataset.id)
    )
    if identifier is not None:
        if known is not None:
            earlier = (Dataset.id == known.id) | (Dataset.replaced_by == known.id)
            session.execute(update(Dataset).where(earlier).values(replaced_by=identifier))
        return Registered(session.get_one(Dataset, identifier), created=True)
    known = _named(session, name)
    if known is None or replace:  # another transaction has registered the name before this one, or a third deleted it
        return register_dataset(
            session, name, facts, source, contact_sheet, replace=replace, api_key_id=api_key_id, owner=owner
        )
    require_owned(session, known, owner)
    return _same(known, facts)


def get_dataset(session: Session, name: str, owner: Owner | None = None) -> Dataset:
    """One data set by name; raises DatasetNotFound and OwnedByAnother. owner: None for one who may use all."""
    return _owned(session, name, owner)


def get_dataset_by_id(session: Session, identifier: int) -> Dataset:
    """One data set by the id of an existing record."""
    return session.get_one(Dataset, identifier)


def lock_dataset(session: Session, name: str, owner: Owner | None = None) -> Dataset:
    """Like `get_dataset`, but lock the data set's record until the transaction ends."""
    return _owned(session, name, owner, lock=True)


def keep_dataset(session: Session, dataset: Dataset) -> None:
    """Keep a data set from being deleted until the transaction ends; raises DatasetNotFound when it already was."""
    held = select(Dataset.id).where(Dataset.id == dataset.id).with_for_update(read=True, key_share=True)
    if session.scalar(held) is None:
        raise DatasetNotFound(dataset.name)


def rename_dataset(session: Session, name: str, new_name: str) -> Dataset:
    """Give a data set another name; its jobs keep it. Raises DatasetNotFound, and DatasetConflict for a taken name."""
    dataset = lock_dataset(session, name)
    dataset.name = new_name
    try:
        session.flush()
    except IntegrityError as error:
        raise DatasetConflict(new_name) from error
    return dataset


def find_configured(session: Session, config: DatasetConfig, owner: Owner | None = None) -> Dataset | None:
    """The owner's first data set that was registered as a path with exactly this configuration, or None."""
    path = None if config.path is None else str(config.path)
    registered = Dataset.configuration.is_not(None) & Dataset.replaced_by.is_(None)
    here = Dataset.configuration["path"].as_string().is_not_distinct_from(path)
    mine = true() if owner is None else owned(Dataset.api_key_id, owner)
    for dataset in session.scalars(select(Dataset).where(registered, here, mine).order_by(Dataset.id)):
        if DatasetConfig.model_validate(dataset.configuration) == config:  # older records lack newer fields
            return dataset
    return None


def list_datasets(
    session: Session,
    after: str | None = None,
    limit: int = 50,
    earlier_of: Dataset | None = None,
    owner: Owner | None = None,
) -> DatasetPage:
    """Up to `limit` data sets in the order of their names, after the name `after`.

    earlier_of: lists the earlier versions of this data set; they are in no other list. owner: lists only what is its.
    A data set that exists from the first page to the last is listed exactly once, whatever else is added meanwhile.
    """
    if limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    of = Dataset.replaced_by.is_(None) if earlier_of is None else Dataset.replaced_by == earlier_of.id
    query = select(Dataset).where(of).order_by(Dataset.name).limit(limit + 1)
    if owner is not None:
        query = query.where(owned(Dataset.api_key_id, owner))
    if after is not None:
        query = query.where(Dataset.name > after)
    datasets = tuple(session.scalars(query))
    return DatasetPage(datasets[:limit], datasets[limit - 1].name if len(datasets) > limit else None)


def copy_encoded(session: Session, dataset: Dataset, file: BinaryIO) -> None:
    """Write an uploaded data set's encoded file to `file`, with one chunk in memory at a time.

    Raises ValueError when the data set is a path, ArtifactMissing or ArtifactCorrupted.
    """
    if dataset.artifact_digest is None:
        raise ValueError(f"the data set {dataset.name!r} is a path, and has no bytes in the store")
    Artifacts(session).copy_to(dataset.artifact_digest, file)


def _named(session: Session, name: str, *, lock: bool = False) -> Dataset | None:
    query = select(Dataset).where(Dataset.name == name)
    return session.scalars(query.with_for_update() if lock else query).one_or_none()


def _owned(session: Session, name: str, owner: Owner | None, *, lock: bool = False) -> Dataset:
    dataset = _named(session, name, lock=lock)
    if dataset is None:
        raise DatasetNotFound(name)
    require_owned(session, dataset, owner)
    return dataset


def _earlier_name(dataset: Dataset) -> str:
    version = f"@{dataset.version}"
    return dataset.name[: MOST_NAME_LETTERS - len(version)].rstrip() + version


def _same(known: Dataset, facts: DatasetFacts) -> Registered:
    if known.digest != facts.digest:
        raise DatasetConflict(
            known.name,
            " with other pictures: replace it, which keeps them as an earlier version, or choose another name",
        )
    return Registered(known, created=False)
