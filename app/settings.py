"""What the operator sets for the API: environment variables with the prefix DARKROOM_, and where the servers are."""

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from darkroom.store.operator_settings import OperatorSettings

REPOSITORY = Path(__file__).resolve().parent.parent


def is_loopback(host: str) -> bool:
    """Whether an address, or the name that stands for one, can be reached from this machine alone."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return host.lower() == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


class Settings(OperatorSettings):
    """Every field is the environment variable DARKROOM_<FIELD>."""

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

    host: str = Field("127.0.0.1", description="where the service can be reached: any but loopback needs API keys")
    require_keys: bool = Field(False, description="ask for a key on loopback, too: behind a proxy on this machine")
    key_cache_seconds: float = Field(5.0, gt=0.0, description="after which a revoked key is refused at the latest")
    key_requests_per_minute: int = Field(600, ge=1, description="of a key that has no limit of its own")
    key_images_per_day: int = Field(100_000, ge=0, description="of a key that has no limit of its own; days are UTC's")
    key_unfinished_jobs: int = Field(300, ge=0, description="of a key that has no limit of its own")
    failed_keys_per_minute: int = Field(60, ge=1, description="bad tokens of one client address, in each process")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="origins, divided by commas, whose pages may call the API: https://lab.example.org"
    )

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("dataset_roots", mode="before")
    @classmethod
    def _folders(cls, value: object) -> object:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value
