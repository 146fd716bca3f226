"""The tables. Times come from the database's clock. Rules for every writer are constraints."""

from dataclasses import fields
from datetime import datetime
from typing import Any, ClassVar, Literal, get_args

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, column_property, composite, mapped_column, relationship

from darkroom.model.figure import Figure
from darkroom.model.training.curve_point import CurvePoint

CheckpointSource = Literal["shipped", "trained", "imported"]
"""The origin of a checkpoint: shipped with the software, from a training job, or uploaded."""

JobKind = Literal["train", "sample", "assemble"]
"""The work of a job: train a model, draw one shard of a generate job, or join the shards into one artifact."""

JobStatus = Literal["queued", "running", "cancelling", "succeeded", "failed", "cancelled"]
Device = Literal["auto", "cpu", "cuda"]
"""The device that a job needs. auto: any."""

Promotion = Literal["never", "best"]
"""best: when the job succeeds, its best checkpoint becomes the production version of its model."""

Purpose = Literal["evaluation", "frontier"]
"""The purpose of a figure: to judge a checkpoint, or to be a point of its frontier."""

Scope = Literal["generate", "train", "metrics", "admin"]
"""A right of an API key. `app/access/scopes.py` says which call needs which."""


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB(none_as_null=True),
        list[str]: JSONB(),
        list[int]: JSONB(),
        list[bool]: JSONB(none_as_null=True),
    }


class Artifact(Base):
    """Content-addressed bytes. digest: "sha256:" and 64 hexadecimal digits.

    location: where the bytes are when they are not in artifact_chunks (`store.places`).
    """

    __tablename__ = "artifacts"
    __table_args__ = (
        CheckConstraint("digest ~ '^sha256:[0-9a-f]{64}$'", name="digest"),
        CheckConstraint("size_bytes >= 0", name="size_bytes"),
    )

    digest: Mapped[str] = mapped_column(primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    location: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ArtifactChunk(Base):
    """One piece of an artifact; all but the last of an artifact have the same size."""

    __tablename__ = "artifact_chunks"

    digest: Mapped[str] = mapped_column(ForeignKey("artifacts.digest", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class Model(Base):
    """A named model; its checkpoints are its versions. api_key_id: its owner's (`store/owners.py`); null for nobody."""

    __tablename__ = "models"
    __table_args__ = (CheckConstraint("name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'", name="name"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    api_key_id: Mapped[int | None] = mapped_column(ForeignKey("api_keys.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Checkpoint(Base):
    """A version of a model. version counts from 1 within the model; metrics hold finite numbers only.

    digest: of its bytes. artifact_digest: the same while the bytes are kept, null after they were deleted. The record
    stays and tells what the model was. keep: nothing deletes the bytes until the mark is taken off.
    verdict: of the look at the training when it had seen these images; null without one.
    """

    __tablename__ = "checkpoints"
    __table_args__ = (
        UniqueConstraint("model_id", "version"),
        UniqueConstraint("model_id", "digest"),
        UniqueConstraint("model_id", "id"),  # the target of aliases
        CheckConstraint("version >= 1", name="version"),
        CheckConstraint("size_bytes >= 0", name="size_bytes"),
        CheckConstraint("images_seen >= 0", name="images_seen"),
        CheckConstraint("source IN ('shipped', 'trained', 'imported')", name="source"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(index=True)
    artifact_digest: Mapped[str | None] = mapped_column(ForeignKey("artifacts.digest"), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    images_seen: Mapped[int] = mapped_column(BigInteger)
    source: Mapped[CheckpointSource] = mapped_column(Text)
    configuration: Mapped[dict[str, Any]]
    class_names: Mapped[list[str]]
    metrics: Mapped[dict[str, Any]]
    keep: Mapped[bool] = mapped_column(server_default=false())
    verdict: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    model: Mapped[Model] = relationship(lazy="joined", innerjoin=True)


class ModelAlias(Base):
    """A movable name ("production") for one checkpoint of a model.

    It begins with a letter, so that it never looks like a version number.
    """

    __tablename__ = "model_aliases"
    __table_args__ = (
        # by both columns, so that an alias cannot point at another model's checkpoint
        ForeignKeyConstraint(["model_id", "checkpoint_id"], ["checkpoints.model_id", "checkpoints.id"]),
        CheckConstraint("alias ~ '^[a-z][a-z0-9._-]{0,62}$'", name="alias"),
    )

    model_id: Mapped[int] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    checkpoint_id: Mapped[int] = mapped_column(BigInteger, index=True)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())


class Dataset(Base):
    """A registered data set: an upload, whose decoded form is an artifact, or a path that the workers see.

    digest: of the decoded content (`model.datasets.ImageDataset.digest`), whatever form it came in.
    configuration: of a path, the `model.config.DatasetConfig` that reads it.
    class_counts: images of each class, in the order of class_names.
    distinct_count, mirrored (there `mirrors`), flat_grounds: as in `model.planning.data_facts.DataFacts`; null for data
    sets of earlier versions. mirrors: True when all classes are mirrored; only the version before reads it.
    version: counts the uploads under one name. replaced_by: the data set that has taken this one's name.
    reading: what was found beside the images (`DatasetFacts.reading`).
    keep: nothing deletes it until the mark is taken off.
    api_key_id: its owner's (`store/owners.py`); null for nobody.
    """

    __tablename__ = "datasets"
    __table_args__ = (
        CheckConstraint("length(name) BETWEEN 1 AND 100", name="name"),
        CheckConstraint("(artifact_digest IS NULL) <> (configuration IS NULL)", name="source"),
        CheckConstraint("image_count > 0", name="image_count"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    format: Mapped[str]
    digest: Mapped[str] = mapped_column(index=True)
    artifact_digest: Mapped[str | None] = mapped_column(ForeignKey("artifacts.digest"), index=True)
    configuration: Mapped[dict[str, Any] | None]
    class_names: Mapped[list[str]]
    class_counts: Mapped[list[int]]
    image_count: Mapped[int] = mapped_column(BigInteger)
    image_channels: Mapped[int]
    image_size: Mapped[int]
    distinct_count: Mapped[int | None] = mapped_column(BigInteger)
    mirrors: Mapped[bool | None]
    mirrored: Mapped[list[bool] | None]
    flat_grounds: Mapped[float | None]
    contact_sheet_digest: Mapped[str] = mapped_column(ForeignKey("artifacts.digest"), index=True)
    keep: Mapped[bool] = mapped_column(server_default=false())
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    version: Mapped[int] = mapped_column(server_default="1")
    replaced_by: Mapped[int | None] = mapped_column(ForeignKey("datasets.id", ondelete="SET NULL"), index=True)
    reading: Mapped[dict[str, Any] | None]
    api_key_id: Mapped[int | None] = mapped_column(ForeignKey("api_keys.id"))


class Job(Base):
    """Work for a worker. A job that is `queued` here will run, with or without a hint.

    attempt: how often it was claimed; also the fencing token, which every write of a worker names.
    lease_expires_at: the end of the claim, on the database's clock.
    failures: attempts in a row that ended badly without a new checkpoint; at max_attempts the job fails for good.
    not_before: no claim before this time (the wait after a failure).
    configuration: a train job's recipe and starting point (`store/job_forms.py`), a sample job's rows.
    api_key_id: the key with which it was queued: its owner (`store/owners.py`), whose unfinished jobs are limited. Null
    without a key.
    request_id, traceparent: of the last request that queued it (`store.job_repository.Origin`).
    images_done, total_images: progress. failure: {"kind", "detail"} of the last bad end, until the job succeeds.
    verdict: {"images_seen", "findings"} of the newest look at a training (`model/training/finding.py`).
    event_count, log_line_count: the last numbers, counted here so that they have no gaps and follow commits.
    keep: nothing deletes what the job has stored until the mark is taken off.
    removed: by `store.retention.Part`, when and why all of that part was deleted: {"states": {"at", "why"}}.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(f"kind IN {get_args(JobKind)}", name="kind"),
        CheckConstraint(
            "status IN ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled')", name="status"
        ),
        CheckConstraint("device IN ('auto', 'cpu', 'cuda')", name="device"),
        CheckConstraint("devices >= 1", name="devices"),
        CheckConstraint("promote IN ('never', 'best')", name="promote"),
        CheckConstraint("max_attempts >= 1", name="max_attempts"),
        CheckConstraint("total_images >= 1", name="total_images"),
        CheckConstraint(
            "(status IN ('running', 'cancelling')) = (lease_expires_at IS NOT NULL)", name="lease_while_running"
        ),
        CheckConstraint(
            "(status IN ('succeeded', 'failed', 'cancelled')) = (finished_at IS NOT NULL)", name="finished_at"
        ),
        Index("ix_jobs_claim", text("priority DESC"), "id", postgresql_where=text("status = 'queued'")),
        Index("ix_jobs_finished_at", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
        Index("ix_jobs_lease", "lease_expires_at", postgresql_where=text("lease_expires_at IS NOT NULL")),
        Index("ix_jobs_kind_id", "kind", text("id DESC")),
        Index("ix_jobs_kind_status_id", "kind", "status", text("id DESC")),
        Index("ix_jobs_kind_model_name_id", "kind", "model_name", text("id DESC")),
        Index("ix_jobs_kind_model_name_status_id", "kind", "model_name", "status", text("id DESC")),
        Index(
            "ix_jobs_api_key_id",
            "api_key_id",
            postgresql_where=text("api_key_id IS NOT NULL AND status IN ('queued', 'running', 'cancelling')"),
        ),
        Index("ix_jobs_sweep_id_id", "sweep_id", "id", postgresql_where=text("sweep_id IS NOT NULL")),
        Index(
            "ix_jobs_generate_job_id_id", "generate_job_id", "id", postgresql_where=text("generate_job_id IS NOT NULL")
        ),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    kind: Mapped[JobKind] = mapped_column(Text)
    status: Mapped[JobStatus] = mapped_column(Text, server_default="queued")
    priority: Mapped[int] = mapped_column(server_default="0")
    model_name: Mapped[str]
    dataset_id: Mapped[int | None] = mapped_column(ForeignKey("datasets.id"), index=True)
    sweep_id: Mapped[int | None] = mapped_column(ForeignKey("sweeps.id"))
    generate_job_id: Mapped[int | None] = mapped_column(ForeignKey("generate_jobs.id"))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"), index=True)
    api_key_id: Mapped[int | None] = mapped_column(ForeignKey("api_keys.id"))
    request_id: Mapped[str | None]
    traceparent: Mapped[str | None]
    configuration: Mapped[dict[str, Any]]
    device: Mapped[Device] = mapped_column(Text, server_default="auto")
    devices: Mapped[int] = mapped_column(server_default="1")
    promote: Mapped[Promotion] = mapped_column(Text, server_default="never")
    attempt: Mapped[int] = mapped_column(server_default="0")
    failures: Mapped[int] = mapped_column(server_default="0")
    max_attempts: Mapped[int] = mapped_column(server_default="3")
    lease_expires_at: Mapped[datetime | None]
    worker: Mapped[str | None]
    not_before: Mapped[datetime] = mapped_column(server_default=func.now())
    images_done: Mapped[int] = mapped_column(BigInteger, server_default="0")
    total_images: Mapped[int] = mapped_column(BigInteger)
    spent_seconds: Mapped[float] = mapped_column(server_default="0")
    best_checkpoint_id: Mapped[int | None] = mapped_column(ForeignKey("checkpoints.id"), index=True)
    failure: Mapped[dict[str, Any] | None]
    verdict: Mapped[dict[str, Any] | None]
    event_count: Mapped[int] = mapped_column(server_default="0")
    log_line_count: Mapped[int] = mapped_column(server_default="0")
    keep: Mapped[bool] = mapped_column(server_default=false())
    removed: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    @hybrid_property
    def is_training(self) -> bool:
        """True for a train job. In a query, `Job.is_training` is a condition, as are the next two."""
        return self.kind == "train"

    @hybrid_property
    def is_shard(self) -> bool:
        """True for a job that draws a shard of a generate job."""
        return self.kind == "sample"

    @hybrid_property
    def is_assembly(self) -> bool:
        """True for a job that joins the shards of a generate job."""
        return self.kind == "assemble"


class JobEvent(Base):
    """An event of a job. number: counts from 1 within the job."""

    __tablename__ = "job_events"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class JobMetric(Base):
    """A point of a job's training curve. A resumed run writes the points after its checkpoint again."""

    __tablename__ = "job_metrics"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    images_seen: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    loss: Mapped[float]
    gradient_norm: Mapped[float]
    learning_rate: Mapped[float]
    images_per_second: Mapped[float]
    memory_bytes: Mapped[int] = mapped_column(BigInteger)
    seconds_left: Mapped[float | None]

    point: Mapped[CurvePoint] = composite(*(field.name for field in fields(CurvePoint)))


class JobLogLine(Base):
    """A log line of the work process. number: counts from 1 within the job."""

    __tablename__ = "job_log_lines"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    attempt: Mapped[int]
    line: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class JobSamples(Base):
    """A sample grid as PNG, with a line for each class."""

    __tablename__ = "job_samples"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    images_seen: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    digest: Mapped[str] = mapped_column(ForeignKey("artifacts.digest"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class JobCheckpoint(Base):
    """The checkpoint of a training job at images_seen: a model version, and the state from which a run can go on.

    state_digest: null after the state was deleted. The newest few are kept.
    """

    __tablename__ = "job_checkpoints"

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    images_seen: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    checkpoint_id: Mapped[int] = mapped_column(ForeignKey("checkpoints.id"), index=True)
    state_digest: Mapped[str | None] = mapped_column(ForeignKey("artifacts.digest"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Evaluation(Base):
    """A figure of a checkpoint (`model/figure.py`). protocol_digest: the figure's, as part of the key.

    purpose: figures of evaluations decide which checkpoint of a job is best. Points of a frontier compare samplers on
    one checkpoint, and do not compare checkpoints.
    """

    __tablename__ = "evaluations"
    __table_args__ = (
        CheckConstraint("purpose IN ('evaluation', 'frontier')", name="purpose"),
        CheckConstraint("purpose <> 'evaluation' OR seconds IS NOT NULL", name="seconds"),
    )

    checkpoint_id: Mapped[int] = mapped_column(ForeignKey("checkpoints.id", ondelete="CASCADE"), primary_key=True)
    purpose: Mapped[Purpose] = mapped_column(Text, primary_key=True)
    metric: Mapped[str] = mapped_column(primary_key=True)
    protocol_digest: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]
    protocol: Mapped[dict[str, Any]]
    seconds: Mapped[float | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    figure: Mapped[Figure] = composite("metric", "value", "protocol", "seconds")


class ReferenceStatistics(Base):
    """Statistics of a data set in the features of an extractor, computed once.

    key: from `model/metrics/references.py`.
    """

    __tablename__ = "reference_statistics"

    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(ForeignKey("artifacts.digest"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Sweep(Base):
    """A grid of training jobs. configuration: the request. fields: dotted names of the varied fields, in order.

    api_key_id: its owner's (`store/owners.py`); null for nobody.
    """

    __tablename__ = "sweeps"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str]
    configuration: Mapped[dict[str, Any]]
    fields: Mapped[list[str]]
    api_key_id: Mapped[int | None] = mapped_column(ForeignKey("api_keys.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class GenerateJob(Base):
    """A large request for images, drawn in shards by workers. Its status follows from its jobs.

    result_digest: the finished archive. api_key_id: its owner's (`store/owners.py`); null for nobody.
    """

    __tablename__ = "generate_jobs"

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    checkpoint_id: Mapped[int] = mapped_column(ForeignKey("checkpoints.id"), index=True)
    configuration: Mapped[dict[str, Any]]
    total_images: Mapped[int] = mapped_column(BigInteger)
    result_digest: Mapped[str | None] = mapped_column(ForeignKey("artifacts.digest"), index=True)
    api_key_id: Mapped[int | None] = mapped_column(ForeignKey("api_keys.id"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class GeneratePart(Base):
    """Finished images of a generate job, from first_row on, in the order of the request.

    drawn_on: `model.diffusion.network.drawn_on` of the worker's device.
    """

    __tablename__ = "generate_parts"

    generate_job_id: Mapped[int] = mapped_column(ForeignKey("generate_jobs.id", ondelete="CASCADE"), primary_key=True)
    first_row: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    rows: Mapped[int]
    digest: Mapped[str] = mapped_column(ForeignKey("artifacts.digest"), index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    drawn_on: Mapped[str | None]


class IdempotencyKey(Base):
    """A create request that has its answer. scope: its method and path. request_digest: SHA-256 of its body."""

    __tablename__ = "idempotency_keys"

    scope: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_digest: Mapped[str]
    resource_id: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)


class Worker(Base):
    """A worker that has reported. devices: how many one job may use.

    device_fault: the fault that the last test of its device found. Until it is null again, the worker claims nothing.
    device_good_at: when a test last found no fault.
    age_seconds: since it was seen, by the database's clock.
    rates: how fast it trains the reference networks (`model.planning.scaled_speed.Rate`); null until it has measured.
    lacks: the networks of metrics that it cannot use, each with the reason; null from an earlier version of Darkroom.
    """

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(primary_key=True)
    device: Mapped[str]
    devices: Mapped[int]
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now(), index=True)
    device_fault: Mapped[str | None]
    device_good_at: Mapped[datetime | None]
    rates: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB(none_as_null=True))
    lacks: Mapped[dict[str, str] | None] = mapped_column(JSONB(none_as_null=True))
    age_seconds: Mapped[float] = column_property(func.extract("epoch", func.now() - seen_at))


class Counter(Base):
    """A part of a total for Prometheus, which earlier versions of Darkroom counted in one row."""

    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]


class CounterSlot(Base):
    """A part of a total for Prometheus, counted in the transaction of the event that it counts: `store/counters.py`."""

    __tablename__ = "counter_slots"

    name: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(primary_key=True)
    slot: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[float]


class ApiKey(Base):
    """A key to the API. A revoked key keeps its record. The secret is not stored: digest is the token's SHA-256.

    prefix: the readable beginning of the token, which finds the key. A limit of null is the service's default.
    last_used_at: exact to a minute. group_name: keys of one group own models and data sets together.
    priority: the highest that its jobs may have. devices: the most that one job may use.
    """

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint("length(name) BETWEEN 1 AND 100", name="name"),
        CheckConstraint("length(digest) = 32", name="digest"),
        CheckConstraint(
            'jsonb_array_length(scopes) > 0 AND scopes <@ \'["generate", "train", "metrics", "admin"]\'::jsonb',
            name="scopes",
        ),
        CheckConstraint("requests_per_minute >= 1", name="requests_per_minute"),
        CheckConstraint("images_per_day >= 0", name="images_per_day"),
        CheckConstraint("unfinished_jobs >= 0", name="unfinished_jobs"),
        CheckConstraint("network_rows_per_day >= 0", name="network_rows_per_day"),
        CheckConstraint("stored_bytes >= 0", name="stored_bytes"),
        CheckConstraint("devices >= 1", name="devices"),
        CheckConstraint("length(group_name) BETWEEN 1 AND 100", name="group_name"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str]
    prefix: Mapped[str] = mapped_column(unique=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary)
    scopes: Mapped[list[Scope]] = mapped_column(JSONB())
    requests_per_minute: Mapped[int | None]
    images_per_day: Mapped[int | None]
    network_rows_per_day: Mapped[int | None] = mapped_column(BigInteger)
    unfinished_jobs: Mapped[int | None]
    stored_bytes: Mapped[int | None] = mapped_column(BigInteger)
    priority: Mapped[int | None]
    devices: Mapped[int | None]
    group_name: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class AuditEvent(Base):
    """A change and its actor. Records are only added: a trigger refuses to change or delete one.

    action: noun and verb, such as "key.created"; target: the resource's path below /v1, such as "models/digits".
    actor: the key's name, "loopback", "command line", "shipped weights", or the job.
    api_key_id: of the key, if the actor is one.
    """

    __tablename__ = "audit_events"
    __table_args__ = (
        Index("ix_audit_events_action_id", "action", text("id DESC")),
        Index("ix_audit_events_target_id", "target", text("id DESC")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    actor: Mapped[str]
    api_key_id: Mapped[int | None] = mapped_column(ForeignKey("api_keys.id"))
    action: Mapped[str]
    target: Mapped[str]
    data: Mapped[dict[str, Any]]
    request_id: Mapped[str | None]
    client_address: Mapped[str | None]
