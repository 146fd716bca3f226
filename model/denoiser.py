"""A network together with what is needed to read its output: the thing that samplers call."""

from collections.abc import Callable

import torch
from torch import Tensor

from model.config import ModelConfig
from model.prediction import x0_coefficients
from model.schedule import make_schedule

Network = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x (B, C, H, W), t (B,), labels (B,) or (B, classes + 1)) -> prediction (B, C, H, W)."""


class SamplingStopped(Exception):
    """Raised instead of another step when drawing was asked to stop."""


class Denoiser:
    """Estimates x_0 for rows with their own times, classes and guidance weights.

    network: the U-Net, or any function of the same form (a closed form in tests).
    class_names: the classes' names; label len(class_names) is the null label.
    """

    def __init__(
        self, config: ModelConfig, class_names: tuple[str, ...], network: Network, device: torch.device | None = None
    ) -> None:
        self.config = config
        self.class_names = class_names
        self.network = network
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
        unet = self.config.unet
        return unet.image_channels, unet.image_size, unet.image_size

    def interruptible(self, should_stop: Callable[[], bool]) -> "Denoiser":
        """The same denoiser, but once `should_stop` answers True its network raises SamplingStopped."""
        network = self.network

        def stopping(x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
            if should_stop():
                raise SamplingStopped
            return network(x, t, labels)

        return Denoiser(self.config, self.class_names, stopping, self.device)

    def predict_x0(self, x: Tensor, t: Tensor, labels: Tensor, guidance: Tensor) -> Tensor:
        """x_0 under classifier-free guidance, before thresholding (Ho & Salimans 2022, equation 6).

        output = w output(class) + (1 - w) output(null); as x_0 is affine in the output with the same coefficients on
        both sides, combining outputs is combining eps. A row with w = 1 or with the null label costs one forward row,
        every other two (w = 0 is for the caller to express as the null label).
        x: (B, C, H, W); t: (B,) int64 on the CPU; labels: (B,) int64 or (B, classes + 1); guidance: (B,) on the CPU.
        """
        guided = (guidance != 1.0).nonzero()[:, 0]
        t_device = t.to(x.device)
        if len(guided) == 0:
            output = self.network(x, t_device, labels)
        else:
            rows = guided.to(x.device)
            null = torch.full_like(labels[rows], self.null_label)
            if labels.is_floating_point():
                null = torch.nn.functional.one_hot(
                    torch.full((len(guided),), self.null_label, device=x.device), len(self.class_names) + 1
                ).to(labels.dtype)
            times_twice = torch.cat([t_device, t_device[rows]])
            both = self.network(torch.cat([x, x[rows]]), times_twice, torch.cat([labels, null]))
            output, unconditional = both[: len(x)], both[len(x) :]
            w = guidance[guided].to(x.device, x.dtype).reshape(-1, 1, 1, 1)
            output = output.index_copy(0, rows, w * output[rows] + (1.0 - w) * unconditional)
        times = t.numpy()
        a = torch.from_numpy(self._from_x[times]).to(x.device, x.dtype).reshape(-1, 1, 1, 1)
        b = torch.from_numpy(self._from_output[times]).to(x.device, x.dtype).reshape(-1, 1, 1, 1)
        return a * x + b * output.to(x.dtype)
