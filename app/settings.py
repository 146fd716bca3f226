"""What the operator sets: environment variables with the prefix DARKROOM_, and the database's address."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

REPOSITORY = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """Every field is the environment variable DARKROOM_<FIELD>, but for DATABASE_URL and REDIS_URL."""

    model_config = SettingsConfigDict(env_prefix="DARKROOM_", extra="ignore", populate_by_name=True)

    database_url: str | None = Field(None, validation_alias="DATABASE_URL", description="PostgreSQL")
    redis_url: str | None = Field(None, validation_alias="REDIS_URL", description="the broker that hints go through")
    hint_seconds: float = Field(60.0, gt=0.0, description="after which a hint is taken for lost")
    state_folder: Path = Field(Path(".darkroom"), description="the free disk under it is told to Prometheus")
    recipes_folder: Path = Field(REPOSITORY / "recipes", description="recipes that requests may name")
    weights_folder: Path = Field(REPOSITORY / "weights", description="shipped checkpoints, served at once")
    default_model: str | None = Field(None, description="served when a request names none; default: the first shipped")
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    compile: bool = Field(False, description="compile the network on the CPU: minutes of warm-up, faster steps")
    queue_rows: int = Field(2048, ge=1, description="images waiting or running at most")
    request_rows: int = Field(1024, ge=1, description="images in one request at most")
    generate_job_images: int = Field(1_000_000, ge=1, description="images in one generate job at most")
    batch_rows: int = Field(64, ge=1, description="forward rows in one step at most")
    resident_versions: int = Field(
        4, ge=1, description="model versions in memory at most; one with a snapshot counts as two"
    )
    alias_poll_seconds: float = Field(2.0, gt=0.0, description="between two looks at what production points at")
    body_limit_bytes: int = Field(1 << 20, ge=1)
    dataset_limit_bytes: int = Field(2 << 30, ge=1, description="an uploaded data set's archive at most")
    dataset_entries: int = Field(200_000, ge=1, description="files and folders in an uploaded archive at most")
    dataset_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (Path("/usr/share/datasets"),), description="folders, divided by colons, whose data sets may be registered"
    )

    @field_validator("dataset_roots", mode="before")
    @classmethod
    def _folders(cls, value: object) -> object:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value
