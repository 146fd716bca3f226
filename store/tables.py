"""The tables. Times come from the database's clock; rules that must hold for every writer are constraints."""

from datetime import datetime
from typing import Any, ClassVar, Literal

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    LargeBinary,
    MetaData,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

CheckpointSource = Literal["shipped", "trained", "imported"]
"""Where a checkpoint comes from: with the software, from a training job, or uploaded."""


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
        dict[str, Any]: JSONB(),
        list[str]: JSONB(),
    }


class Artifact(Base):
    """Content-addressed bytes. digest: "sha256:" and 64 hexadecimal digits."""

    __tablename__ = "artifacts"
    __table_args__ = (
        CheckConstraint("digest ~ '^sha256:[0-9a-f]{64}$'", name="digest"),
        CheckConstraint("size_bytes >= 0", name="size_bytes"),
    )

    digest: Mapped[str] = mapped_column(primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ArtifactChunk(Base):
    """One piece of an artifact; all but the last of an artifact have the same size."""

    __tablename__ = "artifact_chunks"

    digest: Mapped[str] = mapped_column(ForeignKey("artifacts.digest", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class Model(Base):
    """A named model; its checkpoints are its versions."""

    __tablename__ = "models"
    __table_args__ = (CheckConstraint("name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'", name="name"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Checkpoint(Base):
    """A version of a model. version counts from 1 within the model; metrics hold finite numbers only."""

    __tablename__ = "checkpoints"
    __table_args__ = (
        UniqueConstraint("model_id", "version"),
        UniqueConstraint("model_id", "digest"),
        UniqueConstraint("model_id", "id"),  # what an alias refers to
        CheckConstraint("version >= 1", name="version"),
        CheckConstraint("size_bytes >= 0", name="size_bytes"),
        CheckConstraint("images_seen >= 0", name="images_seen"),
        CheckConstraint("source IN ('shipped', 'trained', 'imported')", name="source"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    version: Mapped[int]
    digest: Mapped[str] = mapped_column(ForeignKey("artifacts.digest"), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    images_seen: Mapped[int] = mapped_column(BigInteger)
    source: Mapped[CheckpointSource] = mapped_column(Text)
    configuration: Mapped[dict[str, Any]]
    class_names: Mapped[list[str]]
    metrics: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    model: Mapped[Model] = relationship(lazy="joined", innerjoin=True)


class ModelAlias(Base):
    """A movable name ("production") for one checkpoint of a model.

    An alias begins with a letter, so it can never be taken for a version number.
    """

    __tablename__ = "model_aliases"
    __table_args__ = (
        # both columns together: an alias cannot point at another model's checkpoint
        ForeignKeyConstraint(["model_id", "checkpoint_id"], ["checkpoints.model_id", "checkpoints.id"]),
        CheckConstraint("alias ~ '^[a-z][a-z0-9._-]{0,62}$'", name="alias"),
    )

    model_id: Mapped[int] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"), primary_key=True)
    alias: Mapped[str] = mapped_column(primary_key=True)
    checkpoint_id: Mapped[int] = mapped_column(BigInteger, index=True)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
