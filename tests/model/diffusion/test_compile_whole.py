"""Laws of compiled networks: the warm-up's shapes compile once, and nothing becomes eager code in silence."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from darkroom.model.diffusion.fixed_shapes import FixedShapes, compile_whole
from darkroom.model.diffusion.network import build_network
from darkroom.model.machine import compiler
from tests.app.engine.calls import smooth
from tests.model.small import awaken, small_model


def test_shapes_of_the_warm_up_compile_nothing_again() -> None:
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        graphs.append(len(graphs))
        return graph.forward

    network = FixedShapes(compile_whole(smooth, backend=backend))

    def draw(size: int) -> None:
        x, t = torch.randn(size, 1, 4, 4), torch.arange(size)
        for labels in (torch.arange(size) % 3, torch.full((size, 4), 0.25)):
            assert torch.equal(network(x, t, labels), smooth(x, t, labels))

    for size in (1, 2, 4, 8, 16):
        draw(size)
    warm = len(graphs)
    for size in range(1, 17):
        draw(size)
    assert 0 < warm == len(graphs)


def test_compiled_code_never_becomes_eager_code_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    def own(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        return x * 2.0

    def calls() -> None:
        network = compile_whole(own, backend="eager")
        for size in range(1, 5):
            network(torch.zeros(size, 1, 4, 4), torch.arange(size), torch.arange(size))

    def breaking(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        torch._dynamo.graph_break()
        return x

    monkeypatch.setattr(compiler, "MOST_GRAPHS", 1)
    with ThreadPoolExecutor(1) as thread, pytest.raises(torch._dynamo.exc.FailOnRecompileLimitHit):
        thread.submit(calls).result()
    x, t = torch.zeros(1, 1, 4, 4), torch.zeros(1, dtype=torch.int64)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        compile_whole(breaking, backend="eager")(x, t, t)


def test_the_network_compiles_as_a_whole_with_labels_and_with_mixtures() -> None:
    model = small_model(width=8, multipliers=(1,), attention_resolutions=(8,))
    network = build_network(model, 3, 1000).eval().requires_grad_(False)
    awaken(network)
    compiled = compile_whole(network, backend="eager")
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([3, 400])
    for labels in (torch.tensor([0, 2]), torch.tensor([[0.5, 0.5, 0.0, 0.0], [0.0, 0.25, 0.75, 0.0]])):
        assert torch.equal(compiled(x, t, labels), network(x, t, labels))
