"""Muon: momentum with orthogonalised updates, for the weights between a network's stem and head."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration (Jordan et al. 2024, "Muon"); final singular values are about 0.7 to 1.2."""

ITERATIONS = 5
UPDATE_RMS = 0.2


def orthogonalised(matrix: Tensor) -> Tensor:
    """Return about U V^T of the singular value decomposition U S V^T of a matrix (M, N), without decomposing it."""
    a, b, c = NEWTON_SCHULZ
    x: Tensor = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    if tall:  # keeps `gram` square in the smaller side
        x = x.T
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


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
    ) -> None:
        groups = [{"params": list(matrices)}, {"params": list(others)}]
        super().__init__(groups, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
        self._momentum = momentum
        self._matrices = {id(parameter) for parameter in matrices}

    def is_matrix(self, parameter: nn.Parameter) -> bool:
        """Return True when Muon updates the parameter."""
        return id(parameter) in self._matrices

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no loss is evaluated again here
        """Update every parameter that has a gradient; drops the matrices' gradients, so that AdamW skips them."""
        group = self.param_groups[0]
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if "exp_avg" not in state:
                state["exp_avg"] = torch.zeros_like(parameter)
            momentum = state["exp_avg"].lerp_(parameter.grad, 1.0 - self._momentum)
            ahead = parameter.grad.lerp(momentum, self._momentum).flatten(1)
            update = orthogonalised(ahead) * (UPDATE_RMS * math.sqrt(max(ahead.shape)))
            parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
            parameter.add_(update.reshape(parameter.shape), alpha=-group["lr"])
            parameter.grad = None
        super().step()
