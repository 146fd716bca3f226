"""Counts the bytes of the store, and whose they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import (
    BigInteger,
    CompoundSelect,
    Select,
    SQLColumnExpression,
    Subquery,
    Text,
    cast,
    func,
    literal,
    select,
    union,
)
from sqlalchemy.orm import Session

from darkroom.store.artifacts import unreferenced
from darkroom.store.owners import Owner, owned
from darkroom.store.tables import (
    Artifact,
    Checkpoint,
    Dataset,
    GenerateJob,
    GeneratePart,
    Job,
    JobCheckpoint,
    JobSamples,
    Model,
)

OwnerKind = Literal["dataset", "model", "train-job", "generate-job"]


@dataclass(frozen=True, slots=True)
class OwnerUse:
    """The bytes of a data set, model or job. name: a job's number."""

    kind: OwnerKind
    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class StorageUse:
    """The bytes of the store. kinds: by kind of owner. largest: the owners with the most bytes, largest first.

    unused_bytes: of artifacts that `store.artifacts.collect_artifacts` deletes. database_bytes: on the server's disk.
    """

    artifact_bytes: int
    unused_bytes: int
    database_bytes: int
    kinds: Mapping[OwnerKind, int]
    largest: Sequence[OwnerUse]


def storage_use(session: Session, limit: int, owner: Owner | None = None) -> StorageUse:
    """Return the space that the store takes, with at most `limit` owners. Bytes that owners share count for each.

    owner: names and adds up only the data sets, models and jobs that it may use; None takes all.
    """
    size = cast(func.sum(Artifact.size_bytes), BigInteger)
    owners = _owners(owner)
    total = cast(func.sum(owners.c.bytes), BigInteger)
    kinds = dict.fromkeys(get_args(OwnerKind), 0)
    kinds.update((kind, count) for kind, count in session.execute(select(owners.c.kind, total).group_by(owners.c.kind)))
    largest = select(owners).order_by(owners.c.bytes.desc(), owners.c.kind, owners.c.name).limit(limit)
    return StorageUse(
        artifact_bytes=session.scalar(select(size)) or 0,
        unused_bytes=session.scalar(select(size).where(*unreferenced())) or 0,
        database_bytes=session.scalar(select(func.pg_database_size(func.current_database()))) or 0,
        kinds=kinds,
        largest=[OwnerUse(kind, name, count) for kind, name, count in session.execute(largest)],
    )


def bytes_of_key(session: Session, api_key_id: int) -> int:
    """Return the bytes of the data sets, models and jobs of an API key. Bytes that two of them share count once."""
    jobs = select(Job.id).where(Job.api_key_id == api_key_id)
    drawn = select(GenerateJob.id).where(GenerateJob.api_key_id == api_key_id)
    models = select(Model.id).where(Model.api_key_id == api_key_id)
    digests: CompoundSelect[str | None] = union(
        select(Dataset.artifact_digest).where(Dataset.api_key_id == api_key_id),
        select(Checkpoint.artifact_digest).where(Checkpoint.model_id.in_(models)),
        select(JobCheckpoint.state_digest).where(JobCheckpoint.job_id.in_(jobs)),
        select(JobSamples.digest).where(JobSamples.job_id.in_(jobs)),
        select(GenerateJob.result_digest).where(GenerateJob.id.in_(drawn)),
        select(GeneratePart.digest).where(GeneratePart.generate_job_id.in_(drawn)),
    )
    size = cast(func.sum(Artifact.size_bytes), BigInteger)
    return session.scalar(select(size).where(Artifact.digest.in_(digests))) or 0


def _owners(owner: Owner | None) -> Subquery:
    """Select kind, name and bytes of everything that holds artifacts. owner: only of what it may use."""
    of_dataset = _part("dataset", Dataset.name, Dataset.artifact_digest)
    pictures = _part("dataset", Dataset.name, Dataset.contact_sheet_digest)
    weights = _part("model", Model.name, Checkpoint.artifact_digest).join(Model, Model.id == Checkpoint.model_id)
    states = _part("train-job", Job.id, JobCheckpoint.state_digest).join(Job, Job.id == JobCheckpoint.job_id)
    samples = _part("train-job", Job.id, JobSamples.digest).join(Job, Job.id == JobSamples.job_id)
    results = _part("generate-job", GenerateJob.id, GenerateJob.result_digest)
    parts = _part("generate-job", GenerateJob.id, GeneratePart.digest).join(GenerateJob)
    makers = (
        *((one, Dataset.api_key_id) for one in (of_dataset, pictures)),
        (weights, Model.api_key_id),
        *((one, Job.api_key_id) for one in (states, samples)),
        *((one, GenerateJob.api_key_id) for one in (results, parts)),
    )
    mine = (one if owner is None else one.where(owned(maker, owner)) for one, maker in makers)
    held = union(*mine).subquery()  # each artifact counts once for its owner
    size = cast(func.sum(Artifact.size_bytes), BigInteger).label("bytes")
    joined = select(held.c.kind, held.c.name, size).join(Artifact, Artifact.digest == held.c.digest)
    return joined.group_by(held.c.kind, held.c.name).subquery()


def _part(kind: OwnerKind, name: SQLColumnExpression[Any], digest: SQLColumnExpression[Any]) -> Select[str, str, str]:
    return select(literal(kind).label("kind"), cast(name, Text).label("name"), digest.label("digest"))
