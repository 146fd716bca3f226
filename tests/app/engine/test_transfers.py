"""Laws of what the host sends to a device and reads from it: a GPU computes only while nobody waits for it.

The stand-in for a GPU is PyTorch's device `meta`, whose tensors have shapes and no values. It sees each copy, and so it
fails at every decision by a value on the device.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from darkroom.app.engine.drawer import Drawer, PlainDrawer, ReplayingDrawer
from darkroom.app.engine.phases import Drawing, Scoring, drawings
from darkroom.app.engine.replay import Called, Lookahead
from darkroom.app.engine.request import RowDone, SampleRequest
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.extension_points import SAMPLERS
from tests.app.engine.calls import CLASSES, CONFIG, rows, smooth
from tests.app.engine.test_drawer import Clockwork, every_sampler, worse

DEVICE = torch.device("meta")


class Watched(TorchDispatchMode):
    """Counts copies. sent: to the device, without waiting. waits: copies for which the host waits. read: from it.

    A read gives zeros.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent, self.read, self.waits = 0, 0, list[str]()

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Sequence[Any] = (), named: dict[str, Any] | None = None
    ) -> Any:
        named = named or {}
        name, first = operation.overloadpacket._qualified_op_name, arguments[0] if arguments else None
        if name == "aten::to" and isinstance(first, Tensor) and "device" in named:
            if first.device == DEVICE != named["device"]:
                self.read += 1
                return torch.zeros(first.shape, dtype=first.dtype)
            if first.device != DEVICE == named["device"]:
                self._note(name, waits=not named.get("non_blocking", False))
        elif name == "aten::copy_" and arguments[1].device != first.device:
            self._note(name, waits=not (arguments[2:] or (named.get("non_blocking"),))[0])
        elif name == "aten::detach_" and first.device == DEVICE:
            self._note("torch.tensor", waits=True)
        elif name == "aten::index" and any(one is not None and one.device != first.device for one in arguments[1]):
            self._note(name, waits=True)
        return operation(*arguments, **named)

    def _note(self, name: str, *, waits: bool) -> None:
        if waits:
            self.waits.append(name)
        else:
            self.sent += 1


def denoiser() -> Denoiser:
    return Denoiser(CONFIG, CLASSES, smooth, DEVICE, snapshot=worse)


def replaying(one: Denoiser) -> ReplayingDrawer:
    return ReplayingDrawer(one, Called, Lookahead(Clockwork().event))


@pytest.mark.parametrize("make", [PlainDrawer, replaying])
@torch.inference_mode()
def test_nothing_waits_for_the_device_where_rows_begin_and_advance(make: Callable[[Denoiser], Drawer]) -> None:
    drawer = make(denoiser())
    phases = drawings(drawer.denoiser, SampleRequest("v1", every_sampler()))
    with Watched() as watched:
        for _ in range(5):
            Drawing.advance(drawer, phases)
    assert len(SAMPLERS) > 2
    assert watched.waits == []
    assert watched.read == 0


@torch.inference_mode()
def test_a_replayed_step_sends_one_block_and_a_beginning_row_one_more_for_noise_and_place() -> None:
    drawer = replaying(denoiser())
    wanted = rows(3)
    phases = drawings(drawer.denoiser, SampleRequest("v1", wanted))
    sent = []
    for _ in range(3):
        with Watched() as watched:
            Drawing.advance(drawer, phases)
        sent.append(watched.sent)
    assert sent == [3, 1, 1]
    between = tuple(replace(row, end_seed=9, mix=0.3) for row in wanted)
    with Watched() as watched:
        Drawing.advance(drawer, drawings(drawer.denoiser, SampleRequest("v1", between)))
    assert watched.sent == 5  # the other end's noise, and the place between them


@torch.inference_mode()
def test_all_images_that_a_step_finishes_are_read_in_one_copy() -> None:
    drawer = replaying(denoiser())
    phases = drawings(drawer.denoiser, SampleRequest("v1", rows(4, steps=2), preview_every_steps=1))
    for expected in (1, 1):  # previews, then images
        Drawing.advance(drawer, phases)
        with Watched() as watched:
            results = Drawing.results(phases)
        assert watched.read == expected
        assert watched.waits == []
        assert None not in results
    assert not any(isinstance(result, RowDone) for result in results)  # zeros do not say that they are finite


@torch.inference_mode()
def test_a_step_of_scoring_reads_once() -> None:
    drawer = replaying(denoiser())
    pixels, image = np.zeros((8, 8, 1), np.uint8), torch.zeros(drawer.denoiser.image_shape, device=DEVICE)
    phases = [Scoring(row, row, pixels, image) for row in range(3)]
    with Watched() as watched:
        Scoring.advance(drawer, phases)
    assert watched.read == 1
    assert watched.waits == []
