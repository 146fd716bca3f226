"""denoising-diffusion-pytorch: the U-Net and the diffusion of its module `classifier_free_guidance`.

That module has no trainer. The training step is therefore that of the package's `Trainer` with its defaults: Adam
(0.9, 0.99) at 1e-4, gradients clipped at 1, EMA 0.995 every 10 steps, batch 16. Labels are dropped with probability
0.1. The diffusion has its defaults too (1,000 cosine steps, eps), but predicts v for the sizes that end in `-v`.

The package's `__init__` imports torchvision, accelerate and pytorch-fid. The module needs none of them, so it is loaded
by its file.
"""

from importlib.metadata import distribution
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import torch
from ema_pytorch import EMA
from torch import Tensor

from bench.peers.contender import Choice, Settings

TITLE = "denoising-diffusion-pytorch, classifier-free guidance"
SIZES = ("small", "medium", "large", "small-v", "medium-v", "large-v")
BATCH_IMAGES = 16
LEARNING_RATE = 1e-4
CHOICES = (
    "ddim-250-1",
    "ddim-250-1.5",
    "ddim-250-3",
    "ddim-250-6",
    "ddim-50-1",
    "ddpm-1000-1",
)

LABEL_DROP = 0.1
TIMES = 1000
_WIDTHS = {"small": 16, "medium": 24, "large": 32}
"""Channels at 28x28; two and four times as many at 14x14 and 7x7. 0.8, 1.7 and 2.9 million parameters."""
_DISTRIBUTION = "denoising-diffusion-pytorch"


def version() -> str:
    """Return the package's version."""
    return distribution(_DISTRIBUTION).version


def _module() -> Any:
    path = distribution(_DISTRIBUTION).locate_file("denoising_diffusion_pytorch/classifier_free_guidance.py")
    spec = spec_from_file_location("peer_classifier_free_guidance", str(path))
    assert spec is not None
    assert spec.loader is not None
    module: Any = module_from_spec(spec)
    spec.loader.exec_module(module)
    module.tqdm = lambda steps, **_: steps  # a progress bar for every batch that is drawn
    return module


class ClassifierFreeGuidance:
    """The module's diffusion, trained with the step of `Trainer`."""

    def __init__(self, settings: Settings, classes: int, channels: int, side: int) -> None:
        self._module = _module()
        self._side = side
        size, _, kind = settings.size.partition("-")
        self._objective = {"": "pred_noise", "v": "pred_v"}[kind]
        network = self._module.Unet(
            dim=_WIDTHS[size], num_classes=classes, cond_drop_prob=LABEL_DROP, dim_mults=(1, 2, 4), channels=channels
        )
        # This layout trains up to a third faster.
        network = network.to(memory_format=torch.channels_last)
        self._diffusion = self._module.GaussianDiffusion(network, image_size=side, objective=self._objective)
        self._optimizer = torch.optim.Adam(self._diffusion.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99))
        self._ema = EMA(self._diffusion, beta=0.995, update_every=10)

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self._diffusion.parameters())

    def step(self, pixels: Tensor, labels: Tensor, done: float) -> float:
        self._diffusion.train()
        self._optimizer.zero_grad()
        loss: Tensor = self._diffusion(pixels.float() / 255.0, classes=labels)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self._diffusion.parameters(), 1.0)
        self._optimizer.step()
        self._ema.update()
        return loss.item()

    def state(self) -> dict[str, Any]:
        return {
            "diffusion": self._diffusion.state_dict(),
            "ema": self._ema.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._diffusion.load_state_dict(state["diffusion"])
        self._ema.load_state_dict(state["ema"])
        self._optimizer.load_state_dict(state["optimizer"])

    @torch.inference_mode()
    def draw(self, labels: Tensor, choice: Choice) -> Tensor:
        if choice.sampler not in ("ddpm", "ddim"):
            raise ValueError(f"{choice.sampler!r} is no sampler of this library: use ddpm or ddim")
        if (choice.steps == TIMES) != (choice.sampler == "ddpm"):
            raise ValueError(f"{choice}: with this library, ddpm takes all {TIMES} steps and ddim takes fewer")
        averaged = self._ema.ema_model.eval()
        diffusion = self._module.GaussianDiffusion(
            averaged.model,
            image_size=self._side,
            objective=self._objective,
            sampling_timesteps=choice.steps,
        )
        if choice.guidance == 1.0:
            # Without guidance the network returns one tensor. The diffusion unpacks two and uses the first.
            plain = averaged.model.forward_with_cond_scale
            averaged.model.forward_with_cond_scale = lambda *args, **kwargs: (plain(*args, **kwargs), None)
        try:
            images: Tensor = diffusion.sample(labels, cond_scale=choice.guidance)
        finally:
            vars(averaged.model).pop("forward_with_cond_scale", None)
        return images * 2.0 - 1.0


def build(settings: Settings, classes: int, channels: int, side: int) -> ClassifierFreeGuidance:
    """Build a new network for images (channels, side, side)."""
    return ClassifierFreeGuidance(settings, classes, channels, side)
