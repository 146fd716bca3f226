"""Laws of how networks draw: one place decides it, and the API, jobs, evaluations and notebooks get the same."""

import pytest
import torch

from darkroom.model.diffusion import network as networks
from darkroom.model.diffusion.denoiser import SamplingStopped
from darkroom.model.diffusion.fixed_shapes import BUCKETS, FixedShapes
from darkroom.model.diffusion.mixed_precision import MixedPrecision
from darkroom.model.diffusion.network import DETERMINISTIC_BATCHES, Form, build_network, form_of, make_denoiser
from darkroom.model.machine import compiler
from darkroom.model.machine.compiler import CompilerMissing
from tests.model.small import CLASS_NAMES, awaken, small_model

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def small_network(seed: int = 0) -> networks.DenoisingNetwork:
    """Return a network without attention: on the CPU, its projections never see bfloat16."""
    network = build_network(small_model(attention_resolutions=(), middle_attention=False), len(CLASS_NAMES), 1000)
    awaken(network, seed)
    return network


def test_everything_that_draws_on_a_device_draws_in_one_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "compiler_works", lambda device: True)
    assert form_of(CPU, "serve") == form_of(CPU, "draw") == Form("onnx", "float32")
    assert form_of(CUDA, "serve") == Form("torch", "bfloat16", compiled=True, batches=BUCKETS)
    assert form_of(CUDA, "draw") == Form("torch", "bfloat16")
    monkeypatch.setattr(networks, "computes_deterministically", lambda: True)
    assert form_of(CUDA, "serve") == form_of(CUDA, "draw") == Form("torch", "bfloat16", batches=DETERMINISTIC_BATCHES)


def test_without_a_compiler_the_service_serves_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(device: torch.device, setting: str) -> None:
        raise CompilerMissing("no compiler works here")

    monkeypatch.setattr(compiler, "require_compiler", refuse)
    compiler.compiler_works.cache_clear()
    try:
        assert [form_of(CUDA, "serve") for _ in range(2)] == 2 * [Form("torch", "bfloat16")]
    finally:
        compiler.compiler_works.cache_clear()
    said = [record.message for record in caplog.records]
    assert said == ["nothing is compiled, which is slower: no compiler works here"]


def test_weights_that_were_cast_once_give_the_bits_of_autocast() -> None:
    network = small_network().eval()
    x, t, labels = torch.randn(3, 1, 8, 8), torch.tensor([1, 500, 1000]), torch.tensor([0, 2, 3])
    mixtures = torch.tensor([[0.5, 0.5, 0.0, 0.0]]).expand(3, -1)
    with torch.inference_mode():
        for given in (labels, mixtures):
            with torch.autocast("cpu", torch.bfloat16):
                expected = network(x, t, given).float()
            exact = network(x, t, given)
            cast = MixedPrecision(small_network().eval())(x, t, given)
            assert cast.dtype == torch.float32
            assert torch.equal(cast, expected)
            assert not torch.equal(cast, exact)
            torch.testing.assert_close(cast, exact, rtol=0.0, atol=0.05 * float(exact.abs().max()))


def test_a_denoiser_in_bfloat16_has_its_networks_in_float32_for_densities(monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_model(attention_resolutions=(), middle_attention=False)
    monkeypatch.setattr(networks, "form_of", lambda device, purpose: Form("torch", "bfloat16"))
    x, t, labels = torch.randn(2, 1, 8, 8), torch.tensor([3, 700]), torch.tensor([0, 1])
    for purpose in ("draw", "serve"):
        snapshot = small_network(1), config
        denoiser = make_denoiser(config, CLASS_NAMES, small_network(), CPU, purpose, snapshot=snapshot)
        exact = denoiser.in_float32()
        if purpose == "serve":
            assert exact is denoiser  # the engine does not keep the weights twice
            continue
        assert (denoiser.precision, exact.precision) == ("bfloat16", "float32")
        torch.testing.assert_close(exact.network(x, t, labels), small_network().eval()(x, t, labels))
        assert exact.snapshot is not None
        assert denoiser.snapshot is not None
        assert float((denoiser.snapshot(x, t, labels) - exact.snapshot(x, t, labels)).abs().max()) > 1e-4
        torch.testing.assert_close(exact.snapshot(x, t, labels), small_network(1).eval()(x, t, labels))
        with pytest.raises(SamplingStopped):
            denoiser.interruptible(lambda: True).in_float32().network(x, t, labels)


@pytest.mark.parametrize("rows", [1, 5, 64, 130])
def test_a_deterministic_network_sees_one_batch_size_only(rows: int) -> None:
    seen: list[int] = []

    def network(x: torch.Tensor, t: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return x * t.reshape(-1, 1, 1, 1) + labels.reshape(-1, 1, 1, 1)

    x, t, labels = torch.randn(rows, 1, 8, 8), torch.arange(rows), torch.arange(rows) % 3
    assert torch.equal(FixedShapes(network, DETERMINISTIC_BATCHES)(x, t, labels), network(x, t, labels))
    assert set(seen[:-1]) == {64}
