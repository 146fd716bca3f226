"""Muon: momentum with orthogonalised updates, for the weights between a network's stem and head."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration (Jordan et al. 2024, "Muon"); final singular values are about 0.7 to 1.2."""

ITERATIONS = 5
UPDATE_RMS = 0.2


def orthogonalised(matrices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return about U V^T of the singular value decompositions U S V^T of matrices (..., M, N), without decomposing.

    dtype: of the products; the updates need no more than bfloat16 (Jordan et al. 2024).
    """
    a, b, c = NEWTON_SCHULZ
    x: Tensor = (matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    if tall:  # keeps `gram` square in the smaller side
        x = x.mT
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class MuonAdamW(torch.optim.AdamW):
    """Muon for matrices and AdamW for all other parameters, with one learning rate.

    Muon uses Nesterov momentum and decoupled weight decay, and orthogonalises each update as a matrix (outputs, all
    other dimensions) (Jordan et al. 2024). Updates are scaled by 0.2 sqrt(max(M, N)), so that their root mean square
    equals that of AdamW's updates and the same learning rate suits both (Liu et al. 2025, "Muon is scalable for LLM
    training", equation 4). The state of a matrix is its momentum, `exp_avg`; other parameters have AdamW's state.
    """

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        others: Sequence[nn.Parameter],
        *,
        lr: float,
        momentum: float,
        betas: tuple[float, float],
        weight_decay: float,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        groups = [{"params": list(matrices)}, {"params": list(others)}]
        super().__init__(groups, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
        self._momentum, self._dtype = momentum, dtype
        self._matrices = {id(parameter) for parameter in matrices}

    def is_matrix(self, parameter: nn.Parameter) -> bool:
        """Return True when Muon updates the parameter."""
        return id(parameter) in self._matrices

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no loss is evaluated again here
        """Update every parameter that has a gradient; drops the matrices' gradients, so that AdamW skips them."""
        group = self.param_groups[0]
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        if parameters:
            gradients = [parameter.grad for parameter in parameters]
            for parameter in parameters:
                if "exp_avg" not in self.state[parameter]:
                    self.state[parameter]["exp_avg"] = torch.zeros_like(parameter)
            momenta = [self.state[parameter]["exp_avg"] for parameter in parameters]
            torch._foreach_lerp_(momenta, gradients, 1.0 - self._momentum)
            updates = self._levelled(torch._foreach_lerp(gradients, momenta, self._momentum))
            torch._foreach_mul_(parameters, 1.0 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, updates, alpha=-group["lr"])
        for parameter in parameters:
            parameter.grad = None
        super().step()

    def _levelled(self, ahead: Sequence[Tensor]) -> list[Tensor]:
        """Orthogonalise and scale every update. Matrices of one shape go through the products together."""
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for position, update in enumerate(ahead):
            by_shape.setdefault(tuple(update.flatten(1).shape), []).append(position)
        levelled = list(ahead)
        for shape, positions in by_shape.items():
            stacked = torch.stack([ahead[position].flatten(1) for position in positions])
            scaled = orthogonalised(stacked, self._dtype) * (UPDATE_RMS * math.sqrt(max(shape)))
            for position, update in zip(positions, scaled, strict=True):
                levelled[position] = update.reshape(ahead[position].shape)
        return levelled
