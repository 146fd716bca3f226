"""Muon: momentum whose update is made orthogonal, for the weights between a network's stem and head."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration (Jordan et al. 2024, "Muon"): singular values end between about 0.7 and 1.2."""

ITERATIONS = 5
UPDATE_RMS = 0.2


def orthogonalised(matrix: Tensor) -> Tensor:
    """About U V^T of the singular value decomposition U S V^T of a matrix (M, N), without decomposing it."""
    a, b, c = NEWTON_SCHULZ
    x: Tensor = matrix / (matrix.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    if tall:  # the products are of the smaller side
        x = x.T
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class MuonAdamW(torch.optim.AdamW):
    """Muon for matrices, AdamW for everything else, under one learning rate.

    Nesterov momentum, each update orthogonalised as a matrix (outputs, everything else), decoupled weight decay
    (Jordan et al. 2024); scaled by 0.2 sqrt(max(M, N)) so that its root mean square is that of AdamW's updates and
    learning rates carry over (Liu et al. 2025, "Muon is scalable for LLM training", equation 4). The state of a matrix
    is its momentum, `exp_avg`; that of another parameter is AdamW's.
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
        """Whether Muon updates it."""
        return id(parameter) in self._matrices

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no loss is evaluated again here
        """Update every parameter that has a gradient; the matrices' gradients are dropped, so AdamW passes them by."""
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
