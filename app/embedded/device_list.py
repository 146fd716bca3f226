"""Reads the devices of `darkroom up --devices`: each gets an API and a worker of its own."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from darkroom.app.embedded.process import EmbeddedError
from darkroom.model.machine.cores import share_of_cores

PROCESSES = 2
"""At each place: an API and a worker."""

_DEVICE = re.compile(r"cpu|cuda:\d+")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an API and a worker run. number: from 1; environment: what they are told besides the operator's settings.

    suffix: for names of which there is one for each place; empty for the first.
    """

    number: int
    environment: dict[str, str]

    @property
    def suffix(self) -> str:
        return "" if self.number == 1 else f"-{self.number}"


def read_places(devices: str | None) -> Sequence[Place]:
    """Return a place for each device of a list such as `cuda:0,cuda:1` or `cpu,cpu`. Raises EmbeddedError.

    None: one place, with the operator's own settings. A process sees the GPU of its place alone. `cuda:N` counts among
    those that CUDA_VISIBLE_DEVICES names. The port of a worker's metrics grows by one from place to place. Processes of
    several places share the cores where the operator does not set their numbers.
    """
    if devices is None:
        return (Place(1, {}),)
    names = [name.strip() for name in devices.split(",")]
    for name in names:
        if not _DEVICE.fullmatch(name):
            raise EmbeddedError(f"--devices cannot contain {name!r}: write cpu or cuda:NUMBER, separated by commas")
    share = share_of_cores(PROCESSES * len(names)) if len(names) > 1 else {}
    return [Place(number, _device(name) | _metrics_port(number) | share) for number, name in enumerate(names, 1)]


def _device(name: str) -> dict[str, str]:
    kind, _, index = name.partition(":")
    return {"DARKROOM_DEVICE": kind, "DARKROOM_WORKER_DEVICE": kind} | (
        {"CUDA_VISIBLE_DEVICES": _visible(int(index))} if index else {}
    )


def _visible(index: int) -> str:
    """Return the CUDA_VISIBLE_DEVICES of one GPU."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return str(index)
    among = given.split(",")
    if index >= len(among):
        raise EmbeddedError(f"--devices has cuda:{index}, but CUDA_VISIBLE_DEVICES={given} has {len(among)} GPU(s)")
    return among[index]


def _metrics_port(number: int) -> dict[str, str]:
    first = os.environ.get("DARKROOM_METRICS_PORT", "")
    # The first worker names what is no port.
    return {"DARKROOM_METRICS_PORT": str(int(first) + number - 1)} if number > 1 and first.isdecimal() else {}
