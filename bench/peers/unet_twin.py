"""diffusers' UNet2DModel with the shape of Darkroom's U-Net, and the names of its parameters."""

import re
from collections.abc import Callable
from typing import Any

from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D

from darkroom.model.config import ModelConfig

RENAMES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"^time_in\.", "time_embedding.linear_1."),
    (r"^time_out\.", "time_embedding.linear_2."),
    (r"^stem\.", "conv_in."),
    (r"^norm\.", "conv_norm_out."),
    (r"^head\.", "conv_out."),
    (r"^(down|up)\.(\d+)\.blocks\.", r"\1_blocks.\2.resnets."),
    (r"^(down|up)\.(\d+)\.attentions\.", r"\1_blocks.\2.attentions."),
    (r"^(down|up)\.(\d+)\.resample\.", r"\1_blocks.\2.\1samplers.0.conv."),
    (r"^middle_in\.", "mid_block.resnets.0."),
    (r"^middle_out\.", "mid_block.resnets.1."),
    (r"^middle_attention\.", "mid_block.attentions.0."),
    (r"(resnets\.\d+)\.norm_in\.", r"\1.norm1."),
    (r"(resnets\.\d+)\.norm_out\.", r"\1.norm2."),
    (r"(resnets\.\d+)\.conv_in\.", r"\1.conv1."),
    (r"(resnets\.\d+)\.conv_out\.", r"\1.conv2."),
    (r"(resnets\.\d+)\.scale_shift\.", r"\1.time_emb_proj."),
    (r"(resnets\.\d+)\.shortcut\.", r"\1.conv_shortcut."),
    (r"(attentions\.\d+)\.norm\.", r"\1.group_norm."),
    (r"(attentions\.\d+)\.(query|key|value)\.", lambda found: f"{found[1]}.to_{found[2][0]}."),
    (r"(attentions\.\d+)\.out\.", r"\1.to_out.0."),
]


def renamed(name: str) -> str:
    """Return the name of the same parameter in diffusers' network."""
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def diffusers_twin(model: ModelConfig, classes: int) -> Any:
    """Return a new network for a model without patches. classes: labels without the null label."""
    config = model.unet
    attends = [size in config.attention_resolutions for size in config.feature_sizes(model.image_size)]
    untyped: Any = UNet2DModel
    twin = untyped(
        sample_size=model.image_size,
        in_channels=model.image_channels,
        out_channels=model.image_channels,
        freq_shift=0,
        flip_sin_to_cos=True,
        down_block_types=tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends),
        up_block_types=tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)),
        block_out_channels=tuple(config.width * multiplier for multiplier in config.multipliers),
        layers_per_block=config.blocks_per_level,
        attention_head_dim=config.attention_head_channels,
        norm_num_groups=config.norm_groups,
        attn_norm_num_groups=config.norm_groups,
        resnet_time_scale_shift="scale_shift",
        num_class_embeds=classes + 1,
        add_attention=config.middle_attention,
    )
    for module in twin.modules():  # the constructor lets only the middle be rescaled
        if isinstance(module, ResnetBlock2D):
            module.output_scale_factor = 1.0 / config.residual_scale
        if isinstance(module, Attention):
            module.rescale_output_factor = 1.0 / config.residual_scale
    return twin
