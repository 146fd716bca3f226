"""A network together with what is needed to read its output: the thing that samplers call."""

from collections.abc import Callable

import torch
from torch import Tensor

from darkroom.model.config import ModelConfig
from darkroom.model.diffusion.learned_variance import to_fraction
from darkroom.model.diffusion.prediction import x0_coefficients
from darkroom.model.diffusion.schedule import make_schedule

Network = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x (B, C, H, W), t (B,), labels (B,) or (B, classes + 1)) -> prediction (B, C, H, W), or (B, 2 C, H, W) where the
configuration says that it has learned variances (`model/diffusion/learned_variance.py`)."""


class SamplingStopped(Exception):
    """Raised instead of another step when drawing was asked to stop."""


class Denoiser:
    """Estimates x_0 for rows with their own times, classes and guidance weights.

    network: the U-Net, or any function of the same form (a closed form in tests).
    class_names: the classes' names; label len(class_names) is the null label.
    snapshot: an earlier, hence worse, state of the network, or a smaller one, to guide by; of the same form.
    null_class: whether the network was trained without classes, too.
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
    ) -> None:
        self.config = config
        self.null_class = null_class
        self.class_names = class_names
        self.network = network
        self.snapshot = snapshot
        self.device = device or torch.device("cpu")
        schedule = make_schedule(config.schedule)
        self._from_x, self._from_output = x0_coefficients(schedule, config.prediction)

    @property
    def null_label(self) -> int:
        """The label that stands for no class."""
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        side = self.config.image_size
        return self.config.image_channels, side, side

    def interruptible(self, should_stop: Callable[[], bool]) -> "Denoiser":
        """The same denoiser, but once `should_stop` answers True its network raises SamplingStopped."""
        network = self.network

        def stopping(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            if should_stop():
                raise SamplingStopped
            return network(x, t, labels)

        return Denoiser(self.config, self.class_names, stopping, self.device, self.snapshot, null_class=self.null_class)

    def estimate(
        self, x: Tensor, t: Tensor, labels: Tensor, guidance: Tensor, by_snapshot: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """x_0 under guidance, before thresholding; and where variances are learned, their fraction, else None.

        The fraction is the conditional output's own: guidance moves means only.

        output = w output(class) + (1 - w) guide, where the guide is output(null) (Ho & Salimans 2022, equation 6) or,
        for rows in `by_snapshot`, the snapshot's output(class) (Karras et al. 2024, equation 3). As x_0 is affine in
        the output with the same coefficients on both sides, combining outputs is combining eps. A row with w = 1
        costs one forward row, every other two (w = 0 throughout is for the caller to express as the null label).
        x: (B, C, H, W); t: (B,) int64 on the CPU; labels: (B,) int64 or (B, classes + 1); guidance: (B,) and
        by_snapshot: (B,) bool, none if left out, on the CPU.
        """
        guided = guidance != 1.0
        away = guided & by_snapshot if by_snapshot is not None else torch.zeros_like(guided)
        to_null = (guided & ~away).nonzero()[:, 0].to(x.device)
        to_snapshot = away.nonzero()[:, 0].to(x.device)
        t_device = t.to(x.device)
        if len(to_null) == 0:
            output, fraction = self._split(self.network(x, t_device, labels))
            unconditional = output[:0]
        else:
            times_twice = torch.cat([t_device, t_device[to_null]])
            both_labels = torch.cat([labels, self._null_labels(labels[to_null])])
            both, fraction = self._split(self.network(torch.cat([x, x[to_null]]), times_twice, both_labels))
            output, unconditional = both[: len(x)], both[len(x) :]
        w = guidance.to(x.device, x.dtype).reshape(-1, 1, 1, 1)
        if len(to_snapshot) > 0:
            if self.snapshot is None:
                raise ValueError("the model carries no snapshot to guide by")
            earlier, _ = self._split(self.snapshot(x[to_snapshot], t_device[to_snapshot], labels[to_snapshot]))
            output = _led_away(output, earlier, to_snapshot, w)
        if len(to_null) > 0:
            output = _led_away(output, unconditional, to_null, w)
        times = t.numpy()
        a = torch.from_numpy(self._from_x[times]).to(x.device, x.dtype).reshape(-1, 1, 1, 1)
        b = torch.from_numpy(self._from_output[times]).to(x.device, x.dtype).reshape(-1, 1, 1, 1)
        return a * x + b * output.to(x.dtype), None if fraction is None else fraction[: len(x)].to(x.dtype)

    def _split(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """A network's output as prediction and, where there is one, fraction."""
        channels = self.config.image_channels
        second = output[:, channels:]
        return output[:, :channels], to_fraction(second) if self.config.learned_variance else None

    def _null_labels(self, labels: Tensor) -> Tensor:
        """Null labels in the form of the given ones."""
        if not labels.is_floating_point():
            return torch.full_like(labels, self.null_label)
        null = torch.zeros_like(labels)
        null[:, self.null_label] = 1.0
        return null


def _led_away(output: Tensor, guide: Tensor, rows: Tensor, w: Tensor) -> Tensor:
    """`output` with w output + (1 - w) guide in the given rows; written so that equal outputs give themselves."""
    own = output[rows]
    return output.index_copy(0, rows, own + (w[rows] - 1.0) * (own - guide))
