"""Settings of the API server: environment variables with the prefix DARKROOM_, DATABASE_URL and REDIS_URL."""

import os
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from darkroom.store.database import Pool
from darkroom.store.operator_settings import OperatorSettings

REPOSITORY = Path(__file__).resolve().parent.parent


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host: a loopback address, or the name localhost."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return host.lower() == "localhost"
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


class Settings(OperatorSettings):
    """Settings of the API server. Each field is the environment variable DARKROOM_<FIELD>."""

    state_folder: Path = Field(
        Path(".darkroom"), description="folder of marks of loading versions; /metrics shows its free space"
    )
    recipes_folder: Path = Field(REPOSITORY / "recipes", description="folder of the recipes that requests may name")
    weights_folder: Path = Field(REPOSITORY / "weights", description="folder of shipped weights, served from the start")
    default_model: str | None = Field(
        None,
        description="model of requests that name none; not set: the shipped fashion-mnist, else the first shipped one, "
        "else the first by name",
    )
    device: str = Field(
        "auto", description="where images are drawn: auto (CUDA where there is one), cpu, cuda or cuda:N"
    )
    queue_rows: int = Field(
        2048,
        ge=1,
        description="most images that wait or are drawn at once; "
        "requests get 429 while less than a quarter of the places, or of a key's share of them, is free",
    )
    queue_seconds: float = Field(
        10.0,
        gt=0.0,
        description="most seconds of accepted work, by the measured speed: requests get 429 while there is more, "
        "except a few short ones; keys that have requests share it evenly; "
        "three times the longest request, if that is more",
    )
    request_rows: int = Field(1024, ge=1, description="most images of one request")
    generate_job_images: int = Field(1_000_000, ge=1, description="most images of one generate job")
    batch_rows: int | None = Field(
        None,
        ge=1,
        description="most network rows of one step, if the warm-up finds that so many pay; a guided image takes two; "
        "not set: 64 on a CPU, 256 on a GPU",
    )
    resident_versions: int = Field(
        4, ge=1, description="most model versions kept in memory; one with a snapshot counts as two"
    )
    alias_poll_seconds: float = Field(2.0, gt=0.0, description="seconds between two reads of the production aliases")
    body_limit_bytes: int = Field(
        1 << 20, ge=1, description="most bytes of a request's body, uploads excepted; more get 413"
    )
    weights_limit_bytes: int = Field(
        1 << 30, ge=1, description="most bytes of an uploaded weights file; its check takes several times the memory"
    )
    dataset_limit_bytes: int = Field(2 << 30, ge=1, description="most bytes of an uploaded data set's archive")
    dataset_entries: int = Field(200_000, ge=1, description="most files and folders in an uploaded archive")
    dataset_memory_bytes: int = Field(
        12 << 30, ge=256 << 20, description="most memory of the process that decodes a data set; more get 422"
    )
    dataset_cpu_seconds: int = Field(
        1800, ge=1, description="most processor time of the process that decodes a data set; more get 422"
    )
    dataset_seconds: float = Field(
        3600.0, gt=0.0, description="most time of the process that decodes a data set, one after another; more get 422"
    )
    dataset_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (Path("/usr/share/datasets"),),
        description="folders, separated by colons, from which data sets may be registered by path",
    )

    drain_seconds: int = Field(
        60,
        ge=0,
        le=300,
        description="seconds that running requests have to finish when the service stops; new ones get 503 meanwhile",
    )
    host: str = Field(
        "127.0.0.1", description="address at which others reach the service; any but loopback needs API keys"
    )
    require_keys: bool = Field(
        False, description="ask for a key on loopback too, even if no key exists; set it behind a proxy on this machine"
    )
    open_after_keys: bool = Field(
        False, description="once every key is revoked, answer loopback without a key again, as before the first key"
    )
    api_connections: int = Field(5, ge=1, description="connections to PostgreSQL that the API keeps open")
    api_extra_connections: int = Field(
        5, ge=0, description="connections that it opens besides under load; as many requests use PostgreSQL at once"
    )
    key_cache_seconds: float = Field(
        5.0, gt=0.0, description="seconds for which a verified key stays valid without another look at the database"
    )
    key_requests_per_minute: int = Field(600, ge=1, description="most requests a minute of a key without its own limit")
    key_images_per_day: int = Field(
        100_000, ge=0, description="most images a day (UTC) of a key without its own limit; 0 allows none"
    )
    key_network_rows_per_day: int = Field(
        10_000_000,
        ge=0,
        description="most network rows a day (UTC) of a key without its own limit: an image takes one for each step, "
        "and two where it is guided",
    )
    key_priority: int = Field(
        0, ge=-100, le=100, description="highest priority of a job of a key without its own limit"
    )
    key_devices: int = Field(1, ge=1, description="most devices of a job of a key without its own limit")
    key_stored_bytes: int = Field(
        100 << 30, ge=0, description="most bytes that a key without its own limit stores; above that it adds nothing"
    )
    key_unfinished_jobs: int = Field(
        300, ge=0, description="most queued and running jobs of a key without its own limit; 0 allows none"
    )
    event_streams: int = Field(
        100, ge=1, description="most event streams that one key, or one address without a key, holds open at once"
    )
    failed_keys_per_minute: int = Field(
        60, ge=1, description="most bad tokens a minute from one client address, counted by each process"
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="origins, separated by commas, whose pages may call the API, such as https://lab.example.org"
    )

    def pool(self) -> Pool:
        """The API's pool. A request that meets a connection which the server has closed gets another one."""
        return Pool(self.api_connections, self.api_extra_connections)

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("dataset_roots", mode="before")
    @classmethod
    def _folders(cls, value: object) -> object:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value
