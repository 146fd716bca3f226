"""diffusers: `UNet2DModel`, trained like its example `unconditional_image_generation`, with class labels.

The example's settings: DDPM with 1,000 linear steps, eps, batch 16, gradients clipped at 1. AdamW (0.95, 0.999) has
weight decay 1e-6 and a cosine learning rate after 500 steps of warm-up. EMA has inverse gamma 1, power 3/4 and at most
0.9999. Two things differ. Labels enter through `num_class_embeds` and are replaced with probability 0.1 by one more
class for "none", which makes guidance possible. There are no flips, since all shoes of Fashion-MNIST point to the left.
"""

import math
from importlib.metadata import version as package_version
from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from torch import Tensor

from bench.peers.contender import Choice, Settings

TITLE = "diffusers, UNet2DModel"
SIZES = ("small", "medium", "large")
BATCH_IMAGES = 16
LEARNING_RATE = 1e-4
CHOICES = (
    "ddim-50-1",
    "ddim-50-1.5",
    "ddim-50-2",
    "dpmpp-25-1",
    "dpmpp-25-1.5",
    "dpmpp-25-2",
    "ddpm-1000-1",
)

LABEL_DROP = 0.1
WARMUP_STEPS = 500
_WIDTHS = {"small": (16, 32, 64), "medium": (32, 64, 64), "large": (32, 64, 128)}
"""Channels at 28x28, 14x14 and 7x7; attention at 7x7 and in the middle. 1.0, 1.6 and 3.9 million parameters."""
_SCHEDULERS = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler, "dpmpp": DPMSolverMultistepScheduler}


def version() -> str:
    """diffusers' version."""
    return package_version("diffusers")


class DiffusersUNet:
    """A UNet2DModel, trained with the example's step."""

    def __init__(self, settings: Settings, classes: int, channels: int, side: int) -> None:
        self._null_label = classes
        self._shape = (channels, side, side)
        self._learning_rate = settings.learning_rate
        self._steps = 0
        network: Any = UNet2DModel(
            sample_size=side,
            in_channels=channels,
            out_channels=channels,
            layers_per_block=2,
            block_out_channels=_WIDTHS[settings.size],
            down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
            norm_num_groups=8,
            num_class_embeds=classes + 1,
        )
        self._network = network
        self._noising: Any = DDPMScheduler(num_train_timesteps=1000)
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=self._learning_rate, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8
        )
        self._ema = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self._network.parameters())

    def step(self, pixels: Tensor, labels: Tensor, done: float) -> float:
        self._network.train()
        clean = pixels.float() / 127.5 - 1.0
        noise = torch.randn_like(clean)
        times = torch.randint(0, self._noising.config.num_train_timesteps, (len(clean),))
        labels = torch.where(torch.rand(len(labels)) < LABEL_DROP, self._null_label, labels)
        noisy = self._noising.add_noise(clean, noise, times)
        for group in self._optimizer.param_groups:
            group["lr"] = self._learning_rate * self._learning_rate_factor(done)
        self._optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(self._network(noisy, times, class_labels=labels).sample, noise)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
        self._optimizer.step()
        self._ema.step(self._network.parameters())
        self._steps += 1
        return loss.item()

    def _learning_rate_factor(self, done: float) -> float:
        """Linear warm-up, then half a cosine over the used share of the budget, whose steps are not known before."""
        if self._steps < WARMUP_STEPS:
            return self._steps / WARMUP_STEPS
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))

    def state(self) -> dict[str, Any]:
        return {
            "network": self._network.state_dict(),
            "ema": self._ema.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "steps": self._steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._network.load_state_dict(state["network"])
        self._ema.load_state_dict(state["ema"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._steps = state["steps"]

    @torch.inference_mode()
    def draw(self, labels: Tensor, choice: Choice) -> Tensor:
        if choice.sampler not in _SCHEDULERS:
            raise ValueError(f"{choice.sampler!r} is no sampler of this library: use one of {', '.join(_SCHEDULERS)}")
        self._ema.store(self._network.parameters())
        self._ema.copy_to(self._network.parameters())
        self._network.eval()
        scheduler = _SCHEDULERS[choice.sampler].from_config(self._noising.config)
        scheduler.set_timesteps(choice.steps)
        x: Tensor = torch.randn(len(labels), *self._shape) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            x = scheduler.step(self._guided(x, t, labels, choice.guidance), t, x).prev_sample
        self._ema.restore(self._network.parameters())
        return x

    def _guided(self, x: Tensor, t: Tensor, labels: Tensor, guidance: float) -> Tensor:
        conditional: Tensor = self._network(x, t, class_labels=labels).sample
        if guidance == 1.0:
            return conditional
        unconditional = self._network(x, t, class_labels=torch.full_like(labels, self._null_label)).sample
        guided: Tensor = unconditional + guidance * (conditional - unconditional)
        return guided


def build(settings: Settings, classes: int, channels: int, side: int) -> DiffusersUNet:
    """Build a new network for images (channels, side, side)."""
    return DiffusersUNet(settings, classes, channels, side)
