"""The denoiser that samplers call: a network, and the tables that turn its output into an estimate of x_0."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from darkroom.model.config import ModelConfig
from darkroom.model.diffusion.learned_variance import to_fraction
from darkroom.model.diffusion.prediction import x0_coefficients
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.machine.device import uploaded

Network = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x (B, C, H, W), t (B,), labels (B,) or (B, classes + 1)) -> prediction (B, C, H, W), or (B, 2 C, H, W) for a model
with learned variances (`model/diffusion/learned_variance.py`)."""

Rows = npt.NDArray[np.bool_]
"""(B,): True for the rows that are meant."""

Precision = Literal["float32", "bfloat16"]


class SamplingStopped(Exception):
    """Raised in place of the next step after a caller has asked to stop."""


class Denoiser:
    """Estimates x_0 for rows that each have their own time, class and guidance weight.

    network: the U-Net, or any function of the same form (tests use closed forms).
    class_names: label len(class_names) is the null label.
    snapshot: a worse network of the same form that guides sampling: an earlier copy, or a smaller network.
    null_class: True when the network also learned to predict without a class.
    precision: of the convolutions and matrix products in both networks.
    exact: the same denoiser in float32, where this one computes in bfloat16 and figures need more; else None.

    from_x, from_output: (T + 1,) float64; x_0 at time t is from_x[t] x + from_output[t] output.
    """

    def __init__(
        self,
        config: ModelConfig,
        class_names: tuple[str, ...],
        network: Network,
        device: torch.device | None = None,
        snapshot: Network | None = None,
        *,
        null_class: bool = True,
        precision: Precision = "float32",
        exact: "Denoiser | None" = None,
    ) -> None:
        self.config = config
        self.precision = precision
        self._exact = exact
        self.null_class = null_class
        self.class_names = class_names
        self.network = network
        self.snapshot = snapshot
        self.device = device or torch.device("cpu")
        schedule = make_schedule(config.schedule)
        self.from_x, self.from_output = x0_coefficients(schedule, config.prediction)

    @property
    def null_label(self) -> int:
        """The label that means "no class"."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        side = self.config.image_size
        return self.config.image_channels, side, side

    @property
    def device_facts(self) -> dict[str, str]:
        """How a GPU computes, for protocols and images: its results differ from the CPU's. Empty on the CPU."""
        if self.device.type == "cpu":
            return {}
        tf32 = self.precision == "float32" and self.device.type == "cuda" and torch.backends.cudnn.allow_tf32
        return {"device": self.device.type, "precision": "float32, convolutions in tf32" if tf32 else self.precision}

    def in_float32(self) -> "Denoiser":
        """Return the denoiser that computes in float32: for densities, whose errors the bound multiplies."""
        return self._exact or self

    def interruptible(self, should_stop: Callable[[], bool]) -> "Denoiser":
        """Return the same denoiser, whose network raises SamplingStopped once `should_stop` returns True."""
        network, exact = self.network, self._exact

        def stopping(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            if should_stop():
                raise SamplingStopped
            return network(x, t, labels)

        return Denoiser(
            self.config,
            self.class_names,
            stopping,
            self.device,
            self.snapshot,
            null_class=self.null_class,
            precision=self.precision,
            exact=None if exact is None else exact.interruptible(should_stop),
        )

    def estimate(
        self, x: Tensor, t: Tensor, labels: Tensor, guidance: Tensor, by_snapshot: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the guided estimate of x_0 before thresholding, and the fraction f of learned variances, else None.

        f is the conditional output's own: guidance changes means only.

        output = w output(class) + (1 - w) guide. The guide is output(null) (Ho & Salimans 2022, equation 6) or, for
        rows in `by_snapshot`, the snapshot's output(class) (Karras et al. 2024, equation 3). x_0 is affine in the
        output, with the same coefficients for both networks. Combining outputs therefore combines eps in the same way.
        A row with w = 1 costs one network row, every other row two. Pass the null label to draw with w = 0 throughout.

        x: (B, C, H, W); t: (B,) int64 on the CPU; labels: (B,) int64 or (B, classes + 1); guidance: (B,) on the CPU.
        by_snapshot: (B,) bool on the CPU; default: no row. Raises ValueError without a snapshot for such a row.
        """
        guided = guidance.numpy() != 1.0
        to_snapshot = guided & (False if by_snapshot is None else by_snapshot.numpy())
        times = t.numpy()
        numbers = np.stack([self.from_x[times], self.from_output[times], guidance.numpy()], axis=1)
        return self.estimate_by(uploaded(numbers, x.device, x.dtype), x, t, labels, guided & ~to_snapshot, to_snapshot)

    def estimate_by(
        self, numbers: Tensor, x: Tensor, t: Tensor, labels: Tensor, to_null: Rows, to_snapshot: Rows
    ) -> tuple[Tensor, Tensor | None]:
        """Like `estimate`, by numbers that the caller has looked up.

        numbers: (B, 3) with from_x[t], from_output[t] and the guidance weight. to_null, to_snapshot: the guided rows.
        """
        a, b, w = numbers.reshape(-1, 3, 1, 1, 1).unbind(1)
        t = uploaded(t, x.device)
        if to_null.any():
            rows = _index(to_null, x.device)
            both_labels = torch.cat([labels, self._null_labels(labels[rows])])
            both, fraction = self.split(self.network(torch.cat([x, x[rows]]), torch.cat([t, t[rows]]), both_labels))
            output = _apply_guidance(both[: len(x)], both[len(x) :], rows, w)
        else:
            output, fraction = self.split(self.network(x, t, labels))
        if to_snapshot.any():
            if self.snapshot is None:
                raise ValueError("the model carries no snapshot to guide by")
            rows = _index(to_snapshot, x.device)
            earlier, _ = self.split(self.snapshot(x[rows], t[rows], labels[rows]))
            output = _apply_guidance(output, earlier, rows, w)
        x0 = (a * x).add_(b * output.to(x.dtype))
        return x0, None if fraction is None else fraction[: len(x)].to(x.dtype)

    def split(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """Split a network's output into the prediction and, for learned variances, the fraction."""
        channels = self.config.image_channels
        second = output[:, channels:]
        return output[:, :channels], to_fraction(second) if self.config.learned_variance else None

    def _null_labels(self, labels: Tensor) -> Tensor:
        """Return null labels in the form of the given labels."""
        if not labels.is_floating_point():
            return torch.full_like(labels, self.null_label)
        null = torch.zeros_like(labels)
        null[:, self.null_label] = 1.0
        return null


def _index(chosen: Rows, device: torch.device) -> Tensor | slice:
    """Return what indexes the chosen rows of a tensor. All rows are a slice, because a slice copies nothing."""
    return slice(None) if chosen.all() else uploaded(chosen.nonzero()[0], device)


def _apply_guidance(output: Tensor, guide: Tensor, rows: Tensor | slice, w: Tensor) -> Tensor:
    """Return `output` with w output + (1 - w) guide in the given rows, unchanged where output and guide are equal."""
    own = output[rows]
    guided = (own - guide).mul_(w[rows] - 1.0).add_(own)
    return guided if isinstance(rows, slice) else output.index_copy(0, rows, guided)
