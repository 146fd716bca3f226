"""Helpers for tests of the engine: a network that is a formula, and calls that collect their events."""

import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from darkroom.app.engine.engine import Engine, Ticket
from darkroom.app.engine.request import Event, Failed, Finished, RowDone, RowRequest, SampleRequest
from darkroom.model.config import ModelConfig, SamplingConfig, UNetConfig

CLASSES = ("zero", "one", "two", "poison")
POISON = 3
CONFIG = ModelConfig(prediction="v", image_channels=1, image_size=8, unet=UNetConfig(attention_resolutions=()))


def smooth(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    """A network whose output depends on every one of its inputs, row by row."""
    hard = labels.argmax(1) if labels.is_floating_point() else labels
    shift = (hard.float() / 4.0 + t.float() / 1000.0).reshape(-1, 1, 1, 1)
    return torch.tanh(0.7 * x + shift)


@dataclass
class Call:
    """A submitted request and its events."""

    events: list[Event] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    ticket: Ticket | None = None

    def sink(self, event: Event) -> None:
        assert not self.over.is_set(), "the engine sent an event after the last one"
        self.events.append(event)
        if isinstance(event, Finished | Failed):
            self.over.set()

    def wait(self) -> Event:
        assert self.over.wait(60), "the request never ended"
        return self.events[-1]

    def cancel(self) -> None:
        assert self.ticket is not None
        self.ticket.cancel()

    def done(self) -> dict[int, RowDone]:
        return {event.row: event for event in self.events if isinstance(event, RowDone)}

    def images(self) -> dict[int, np.ndarray]:
        return {row: event.image for row, event in self.done().items()}


def rows(count: int, *, label: int | None = 1, seed: int = 5, **sampling: object) -> tuple[RowRequest, ...]:
    settings = SamplingConfig.model_validate({"guidance": 2.0, "steps": 10} | sampling)
    return tuple(RowRequest(label, seed, index, settings) for index in range(count))


def submit(engine: Engine, wanted: tuple[RowRequest, ...], version: str = "v1", **options: Any) -> Call:
    call = Call()
    call.ticket = engine.submit(SampleRequest(version, wanted, **options), call.sink)
    return call
