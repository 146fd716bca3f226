"""What the operator sets for a worker and for the reconciler: environment variables."""

import os
import socket
from pathlib import Path
from typing import Literal

from pydantic import Field

from darkroom.store.database import Pool
from darkroom.store.job_repository import Claimant
from darkroom.store.operator_settings import OperatorSettings
from darkroom.store.retention import Part


def _detected_device() -> Literal["cpu", "cuda"]:
    """CUDA where the driver is there; found without torch, which a supervisor does not import."""
    return "cuda" if Path("/proc/driver/nvidia/version").exists() else "cpu"


class JobSettings(OperatorSettings):
    """What worker and reconciler share. Every field but DATABASE_URL is the environment variable DARKROOM_<FIELD>."""

    database_url: str = Field(min_length=1, validation_alias="DATABASE_URL")
    beat_seconds: float = Field(
        10.0,
        gt=0.0,
        description="seconds between two renewals of a lease, and between two looks of an idle worker for jobs",
    )


class ReconcilerSettings(JobSettings):
    """The reconciler's, which needs DATABASE_URL."""

    reconciler_connections: int = Field(1, ge=1, description="connections to PostgreSQL that the reconciler keeps open")
    reconcile_seconds: float = Field(10.0, gt=0.0, description="seconds between two rounds of the reconciler")
    device_patience_seconds: float = Field(
        600.0, gt=0.0, description="seconds that a job waits for a worker with its device before it fails"
    )
    alive_file: Path | None = Field(None, description="file that the reconciler touches after each round, for a probe")
    keep_states_days: float = Field(
        7.0,
        ge=0.0,
        description="days that an ended train job keeps its training states, without which nobody can resume or "
        "continue it; inf: for ever",
    )
    keep_points_days: float = Field(
        365.0, ge=0.0, description="days that an ended train job keeps its training curve; inf: for ever"
    )
    keep_logs_days: float = Field(30.0, ge=0.0, description="days that an ended job keeps its log; inf: for ever")
    keep_events_days: float = Field(90.0, ge=0.0, description="days that an ended job keeps its events; inf: for ever")

    def pool(self) -> Pool:
        """The reconciler's pool. What a lost connection interrupts follows in the next round."""
        return Pool(self.reconciler_connections, 0, ping=False)

    def days(self, part: Part) -> float:
        """Days for which an ended job keeps a part of its records; may be infinite."""
        return float(getattr(self, f"keep_{part}_days"))


class WorkerSettings(JobSettings):
    """A worker's, which needs DATABASE_URL and REDIS_URL."""

    redis_url: str = Field(min_length=1, validation_alias="REDIS_URL")
    worker_name: str = Field(
        default_factory=socket.gethostname,
        description="must differ between machines (not set: the machine's name); a second worker of one gets -2 added",
    )
    worker_device: Literal["cpu", "cuda"] = Field(
        default_factory=_detected_device, description="where jobs run; not set: cuda where NVIDIA's driver is loaded"
    )
    worker_devices: int = Field(
        1,
        ge=1,
        description="devices that one job may use (training.devices); a job for more than any worker has is refused",
    )
    cache_folder: Path = Field(
        Path(".darkroom/datasets"), description="folder of decoded data sets, made again when it is gone"
    )
    lease_seconds: float = Field(60.0, gt=0.0, description="seconds that a claim holds without a renewal")
    poll_seconds: float = Field(0.5, gt=0.0, description="seconds between two looks at whether the job was cancelled")
    grace_seconds: float = Field(
        120.0, gt=0.0, description="seconds to store a last checkpoint when a run is asked to stop"
    )
    job_hours: float = Field(
        168.0,
        gt=0.0,
        description="most hours of one attempt at a job: then it stores its state and fails; inf: no limit",
    )
    metrics_port: int | None = Field(None, ge=1, le=65535, description="port of the worker's /metrics; not set: none")
    metrics_host: str = Field("127.0.0.1", description="address of that port")
    measure_speed: bool = Field(
        True,
        description="measure this worker's speed while it has no job, for plans (POST /train-jobs with minutes)",
    )
    worker_connections: int = Field(
        2, ge=1, description="connections to PostgreSQL of a worker: one for its job, one for its beat"
    )
    work_connections: int = Field(
        1, ge=1, description="connections that a work process (one for each device of a job) keeps open"
    )
    work_extra_connections: int = Field(
        2, ge=0, description="connections that it opens besides, while it loads a data set or stores a checkpoint"
    )
    niceness: int = Field(5, ge=0, le=19, description="niceness of work on a CPU: a service beside it goes first")

    def pool(self) -> Pool:
        """The pool of the worker. It tries again what a lost connection interrupts."""
        return Pool(self.worker_connections, 0, ping=False)

    def work_pool(self) -> Pool:
        """The pool of a work process: its work, its reporter and its watchdog may need a connection at once."""
        return Pool(self.work_connections, self.work_extra_connections, ping=False)

    def claimant(self) -> Claimant:
        """This process's place in the worker."""
        name = f"{self.worker_name}:{os.getpid()}"
        return Claimant(name, self.worker_device, self.worker_devices)

    def tested_devices(self) -> int:
        """How many devices must work before a job is claimed: none where it computes on the CPU."""
        return self.worker_devices if self.worker_device == "cuda" else 0
