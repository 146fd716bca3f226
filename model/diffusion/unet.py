"""The U-Net of the DDPM / Dhariwal & Nichol family.

Residual blocks with scale-shift (adaptive group norm) conditioning on time and class, multi-head self-attention at
chosen resolutions and in the middle, one skip connection per residual block plus the stem and each downsample.
Without patches its parameters correspond one to one to those of diffusers' UNet2DModel.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from darkroom.model.config import ModelConfig, UNetConfig

EMBEDDED_STEPS = 1000
"""The T for which the embedding's frequencies were chosen."""


def embedding_frequencies(channels: int, device: torch.device | None = None) -> Tensor:
    """Return the frequencies of `sinusoidal_embedding`, (channels / 2,)."""
    half = channels // 2
    return torch.exp(-math.log(10_000.0) / half * torch.arange(half, dtype=torch.float32, device=device))


def sinusoidal_embedding(t: Tensor, channels: int) -> Tensor:
    """Transformer position embedding of times (Vaswani et al. 2017): cosines, then sines.

    t: (B,); returns (B, channels).
    """
    angles = t.float()[:, None] * embedding_frequencies(channels, t.device)[None]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def embed_classes(weight: Tensor, labels: Tensor) -> Tensor:
    """Return class embeddings (B, E) of int64 labels (B,), or of float mixtures of labels (B, classes + 1).

    weight: (classes + 1, E).
    """
    if labels.is_floating_point():
        # float64, so that the rounded result is the same in any batch, and one class gets its own row exactly.
        return (labels.double() @ weight.double()).float()
    return F.embedding(labels, weight)


def _zero(module: nn.Linear | nn.Conv2d) -> None:
    nn.init.zeros_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


class GroupNorm(nn.GroupNorm):
    """Group normalisation in float32 at any autocast precision, as on CUDA. On the CPU, bfloat16 is 3 times slower."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class ResidualBlock(nn.Module):
    """(norm, SiLU, conv) twice around a residual; the embedding scales and shifts after the second norm.

    (B, in, H, W), (B, E) -> (B, out, H, W). Dhariwal & Nichol 2021, section 3.1 (adaptive group normalisation).
    """

    def __init__(self, channels_in: int, channels_out: int, embedding: int, config: UNetConfig) -> None:
        super().__init__()
        self.norm_in = GroupNorm(config.norm_groups, channels_in)
        self.conv_in = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.scale_shift = nn.Linear(embedding, 2 * channels_out)
        self.norm_out = GroupNorm(config.norm_groups, channels_out)
        self.dropout = nn.Dropout(config.dropout)
        self.conv_out = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()
        self.residual_scale = config.residual_scale
        _zero(self.conv_out)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv_in(F.silu(self.norm_in(x)))
        scale, shift = self.scale_shift(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
        h = self.norm_out(h) * (1.0 + scale) + shift
        h = self.conv_out(self.dropout(F.silu(h)))
        out: Tensor = self.shortcut(x) + h
        return out if self.residual_scale == 1.0 else out * self.residual_scale


class SelfAttention(nn.Module):
    """Multi-head self-attention over the cells of a feature map, around a residual: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, channels: int, config: UNetConfig) -> None:
        super().__init__()
        self.heads = channels // config.attention_head_channels
        self.norm = GroupNorm(config.norm_groups, channels)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        self.residual_scale = config.residual_scale
        _zero(self.out)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)

        def split(projection: nn.Linear) -> Tensor:
            projected: Tensor = projection(tokens)
            return projected.reshape(batch, height * width, self.heads, -1).transpose(1, 2)

        # On a CPU, the backward pass of attention is many times slower in bfloat16 than in float32.
        with torch.autocast("cpu", enabled=False):
            attended = F.scaled_dot_product_attention(split(self.query), split(self.key), split(self.value))
        h: Tensor = self.out(attended.transpose(1, 2).flatten(2)).transpose(1, 2)
        out = x + h.reshape(batch, channels, height, width)
        return out if self.residual_scale == 1.0 else out * self.residual_scale


class Level(nn.Module):
    """One resolution of one side of the U-Net: residual blocks, their attentions, and the change of resolution."""

    def __init__(
        self, blocks: list[ResidualBlock], attentions: list[SelfAttention], resample: nn.Conv2d | None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.attentions = nn.ModuleList(attentions)
        self.resample = resample

    def block(self, index: int, x: Tensor, embedding: Tensor) -> Tensor:
        """Apply the index-th residual block and, where this level has attention, its attention."""
        x = self.blocks[index](x, embedding)
        if len(self.attentions):
            x = self.attentions[index](x)
        return x


class UNet(nn.Module):
    """The denoising network: (B, C, H, W) noisy images, times and labels -> (B, C, H, W) prediction.

    With `learned_variance` it returns (B, 2 C, H, W): the prediction, then the output o of
    `model/diffusion/learned_variance.py`.
    classes: number of labels; label `classes` is the null label, which means "no class".
    embedding_steps: T; times 1..T are scaled to 1..EMBEDDED_STEPS before they are embedded.
    """

    def __init__(self, model: ModelConfig, classes: int, embedding_steps: int = EMBEDDED_STEPS) -> None:
        super().__init__()
        self.config = config = model.unet
        self.time_scale = EMBEDDED_STEPS / embedding_steps
        self.null_label = classes
        embedding = 4 * config.width
        pixels = model.image_channels * config.patch_size**2
        widths = [config.width * multiplier for multiplier in config.multipliers]
        sizes = config.feature_sizes(model.image_size)

        def attentions(level: int, count: int) -> list[SelfAttention]:
            attends = sizes[level] in config.attention_resolutions
            return [SelfAttention(widths[level], config) for _ in range(count if attends else 0)]

        self.time_in = nn.Linear(config.width, embedding)
        self.time_out = nn.Linear(embedding, embedding)
        self.class_embedding = nn.Embedding(classes + 1, embedding)
        self.stem = nn.Conv2d(pixels, config.width, 3, padding=1)

        channels = config.width
        skips = [channels]
        self.down = nn.ModuleList()
        last = len(widths) - 1
        for level, width in enumerate(widths):
            blocks = []
            for _ in range(config.blocks_per_level):
                blocks.append(ResidualBlock(channels, width, embedding, config))
                channels = width
                skips.append(channels)
            halve = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if level < last else None
            skips += [channels] if halve is not None else []
            self.down.append(Level(blocks, attentions(level, len(blocks)), halve))

        self.middle_in = ResidualBlock(channels, channels, embedding, config)
        self.middle_attention = SelfAttention(channels, config) if config.middle_attention else nn.Identity()
        self.middle_out = ResidualBlock(channels, channels, embedding, config)

        self.up = nn.ModuleList()
        for level in reversed(range(len(widths))):
            blocks = []
            for _ in range(config.blocks_per_level + 1):
                blocks.append(ResidualBlock(channels + skips.pop(), widths[level], embedding, config))
                channels = widths[level]
            double = nn.Conv2d(channels, channels, 3, padding=1) if level > 0 else None
            self.up.append(Level(blocks, attentions(level, len(blocks)), double))

        self.norm = GroupNorm(config.norm_groups, channels)
        self.head = nn.Conv2d(channels, pixels * (2 if config.learned_variance else 1), 3, padding=1)
        _zero(self.head)

    def hidden_matrices(self) -> list[nn.Parameter]:
        """Return the weights of all convolutions and projections between stem and head, without embeddings or norms."""
        inner = (self.down, self.middle_in, self.middle_attention, self.middle_out, self.up)
        return [parameter for module in inner for parameter in module.parameters() if parameter.ndim > 1]

    def forward(self, x: Tensor, t: Tensor, labels: Tensor) -> Tensor:
        """x: (B, C, H, W); t: (B,) times 1..T; labels: (B,) int64 or (B, classes + 1) mixtures."""
        # The embedding counts times from 0, as DDPM's code and diffusers do.
        embedded = t - 1 if self.time_scale == 1.0 else t * self.time_scale - 1.0
        time = sinusoidal_embedding(embedded, self.config.width).to(x.dtype)
        embedding = self.time_out(F.silu(self.time_in(time))) + embed_classes(self.class_embedding.weight, labels)

        x = self.stem(F.pixel_unshuffle(x, self.config.patch_size))
        skips = [x]
        for level in self.down:
            assert isinstance(level, Level)
            for index in range(len(level.blocks)):
                x = level.block(index, x, embedding)
                skips.append(x)
            if level.resample is not None:
                x = level.resample(x)
                skips.append(x)

        x = self.middle_out(self.middle_attention(self.middle_in(x, embedding)), embedding)

        for level in self.up:
            assert isinstance(level, Level)
            for index in range(len(level.blocks)):
                x = level.block(index, torch.cat([x, skips.pop()], dim=1), embedding)
            if level.resample is not None:
                x = level.resample(F.interpolate(x, scale_factor=2.0, mode="nearest"))

        return F.pixel_shuffle(self.head(F.silu(self.norm(x))), self.config.patch_size)
