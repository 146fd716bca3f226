"""Muon: orthogonal updates against a singular value decomposition, and against PyTorch's Muon for plain matrices."""

import pytest
import torch
from torch import nn

from darkroom.model.diffusion.unet import UNet
from darkroom.model.training.muon import MuonAdamW, orthogonalised
from tests.model.small import small_model


@pytest.mark.parametrize("shape", [(8, 8), (16, 72), (72, 16), (1, 30)])
def test_an_orthogonalised_matrix_keeps_its_singular_vectors_and_levels_its_values(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 1e-3
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    levelled = u.T @ orthogonalised(matrix) @ vh.T
    values = levelled.diagonal()
    assert ((values > 0.4) & (values < 1.3)).all()
    assert (levelled - values.diag()).abs().max() < 1e-3


def test_plain_matrices_move_as_by_pytorchs_muon() -> None:
    generator = torch.Generator().manual_seed(5)
    ours = nn.Parameter(torch.randn(12, 40, generator=generator))
    theirs = nn.Parameter(ours.detach().clone())
    settings = {"lr": 0.02, "momentum": 0.9, "weight_decay": 0.1}
    one = MuonAdamW([ours], [nn.Parameter(torch.zeros(1))], betas=(0.9, 0.999), **settings)
    other = torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **settings)
    for _ in range(5):
        ours.grad = torch.randn(12, 40, generator=generator)
        theirs.grad = ours.grad.clone()
        one.step()
        other.step()
    torch.testing.assert_close(ours, theirs, rtol=0.0, atol=2e-3)  # theirs orthogonalises in bfloat16


def test_a_matrix_gets_its_momentum_once(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = nn.Parameter(torch.ones(3, 4))
    muon = MuonAdamW(
        [matrix], [nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9, betas=(0.9, 0.99), weight_decay=0.0
    )
    made: list[torch.Tensor] = []
    zeros_like = torch.zeros_like

    def counted(tensor: torch.Tensor) -> torch.Tensor:
        made.append(tensor)
        return zeros_like(tensor)

    monkeypatch.setattr(torch, "zeros_like", counted)
    for _ in range(3):
        matrix.grad = torch.ones(3, 4)
        muon.step()
    assert len(made) == 1


def test_everything_but_the_matrices_moves_as_by_adamw() -> None:
    torch.manual_seed(0)
    one, other = nn.Linear(3, 5), nn.Linear(3, 5)
    other.load_state_dict(one.state_dict())
    settings = {"lr": 0.01, "weight_decay": 0.1, "betas": (0.9, 0.99)}
    muon = MuonAdamW([one.weight], [one.bias], momentum=0.9, **settings)
    adam = torch.optim.AdamW([other.bias], fused=True, **settings)
    for _ in range(3):
        x = torch.randn(4, 3)
        for network in (one, other):
            network.zero_grad()
            (network.bias * x.sum()).square().sum().backward()
        muon.step()
        adam.step()
    assert torch.equal(one.bias, other.bias)


def test_the_networks_matrices_are_those_between_stem_and_head() -> None:
    network = UNet(small_model(), 3)
    taken = {id(parameter) for parameter in network.hidden_matrices()}
    left = {name for name, parameter in network.named_parameters() if id(parameter) not in taken and parameter.ndim > 1}
    assert left == {"time_in.weight", "time_out.weight", "class_embedding.weight", "stem.weight", "head.weight"}
    assert all(parameter.ndim > 1 for parameter in network.hidden_matrices())
