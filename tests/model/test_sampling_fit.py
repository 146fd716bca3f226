"""Laws of named settings: they are kept, the model's own settings give way, and impossible settings are refused."""

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.model.checkpoint import CheckpointHeader, SnapshotHeader, load_checkpoint
from darkroom.model.config import GuideName, SamplerName, SamplingConfig, SpacingName, ThresholdName, VarianceName
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.extension_points import SAMPLERS
from darkroom.model.samplers import step_table
from darkroom.model.samplers.spacing import most_steps
from darkroom.model.sampling_fit import Unfit, fitted

SHIPPED = load_checkpoint(Path("weights/fashion-mnist.safetensors")).header
"""A model whose own settings have `edm_coarse`, which has 992 steps, and a guidance interval."""

DEFAULTS = SamplingConfig()


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("spacing", [None, *get_args(SpacingName)])
def test_any_sampler_takes_any_steps_unless_a_named_spacing_has_fewer(
    sampler: SamplerName, spacing: SpacingName | None
) -> None:
    for steps in (1, 2, 10, 50, 992, 993, 1000):
        _try(sampler, steps, spacing)


def _try(sampler: SamplerName, steps: int, spacing: SpacingName | None) -> None:
    named: dict[str, Any] = {"sampler": sampler, "steps": steps} | ({"spacing": spacing} if spacing else {})
    if steps > 992 and spacing not in (None, "trailing"):
        with pytest.raises(Unfit, match=f"between 1 and 992 with spacing {spacing}, not {steps}") as refusal:
            fitted(SHIPPED, named)
        assert refusal.value.fields == ("spacing", "steps")
        return
    settings = fitted(SHIPPED, named)
    assert settings.model_dump().items() >= named.items()
    if spacing is None:
        assert settings.spacing == ("trailing" if steps > 992 else "edm_coarse")
    assert len(step_table(SHIPPED.model.schedule, settings).noise) == steps


def _card(
    *, snapshot: bool = False, learned: bool = False, diffusion_steps: int = 1000, **sampling: Any
) -> CheckpointHeader:
    unet = SHIPPED.model.unet.model_copy(update={"learned_variance": learned})
    schedule = SHIPPED.model.schedule.model_copy(update={"steps": diffusion_steps})
    changed = {
        "sampling": SHIPPED.sampling.model_copy(update=sampling),
        "model": SHIPPED.model.model_copy(update={"unet": unet, "schedule": schedule}),
        "snapshot": SnapshotHeader(images_seen=1) if snapshot else None,
    }
    return SHIPPED.model_copy(update=changed)


@pytest.mark.parametrize(
    ("card", "named", "taken"),
    [
        (_card(), {"spacing": "edm"}, {"steps": 10, "sampler": "unipc_3"}),
        (_card(spacing="trailing", steps=1000), {"spacing": "edm"}, {"steps": 50}),
        (_card(diffusion_steps=20, steps=1000), {}, {"steps": 20, "spacing": "edm_coarse"}),
        (_card(), {"guidance": 0.0}, {"guidance_interval": None, "guide": "unconditional"}),
        (_card(snapshot=True, guide="snapshot"), {"guidance": 0.0}, {"guide": "unconditional"}),
        (_card(), {"guidance": 1.0}, {"guidance_interval": (0.5, 2.0)}),
        (_card(), {"guidance": 0.0, "guidance_interval": (0.1, 1.0)}, {"guidance_interval": (0.1, 1.0)}),
        (_card(snapshot=True, guide="snapshot"), {"guidance": 2.0}, {"guide": "snapshot"}),
        (_card(guide="snapshot"), {}, {"guide": "unconditional"}),
        (_card(variance="learned"), {"sampler": "ddpm"}, {"variance": "beta_tilde"}),
        (_card(learned=True, variance="learned"), {"sampler": "ddpm"}, {"variance": "learned"}),
        (_card(), {"threshold": "dynamic"}, {"percentile": 0.995, "spacing": "edm_coarse"}),
    ],
)
def test_settings_that_are_left_out_are_the_models_own_where_they_fit_the_named_ones(
    card: CheckpointHeader, named: dict[str, Any], taken: dict[str, Any]
) -> None:
    assert fitted(card, named).model_dump().items() >= (named | taken).items()


_NAMED = st.fixed_dictionaries(
    {},
    optional={
        "guidance": st.sampled_from([0.0, 0.5, 1.0, 3.0]),
        "guidance_interval": st.sampled_from([(0.0, 1e6), (0.5, 2.0)]),
        "guide": st.sampled_from(get_args(GuideName)),
        "sampler": st.sampled_from(list(SAMPLERS)),
        "steps": st.sampled_from([1, 2, 49, 50, 992, 993, 1000]),
        "spacing": st.sampled_from(get_args(SpacingName)),
        "threshold": st.sampled_from(get_args(ThresholdName)),
        "percentile": st.sampled_from([0.9, 1.0]),
        "eta": st.sampled_from([0.0, 1.0]),
        "variance": st.sampled_from(get_args(VarianceName)),
    },
)
_CARDS = st.builds(
    lambda snapshot, learned, diffusion_steps, sampling: _card(
        snapshot=snapshot, learned=learned, diffusion_steps=diffusion_steps, **sampling
    ),
    st.booleans(),
    st.booleans(),
    st.sampled_from([2, 50, 1000]),
    _NAMED,
)


def _possible(card: CheckpointHeader, named: dict[str, Any]) -> bool:
    steps, spacing = named.get("steps", 1), named.get("spacing", "trailing")
    if steps > most_steps(make_schedule(card.model.schedule), spacing):
        return False
    if named.get("guide") == "snapshot" and card.snapshot is None:
        return False
    return named.get("variance") != "learned" or card.model.unet.learned_variance


@given(_CARDS, _NAMED)
def test_named_settings_are_never_changed_and_refused_only_for_what_they_are(
    card: CheckpointHeader, named: dict[str, Any]
) -> None:
    """This also holds when the model's own settings do not suit the model."""
    if not _possible(card, named):
        with pytest.raises(Unfit) as refusal:
            fitted(card, named)
        assert set(refusal.value.fields) <= set(named)
        return
    settings = fitted(card, named)
    assert settings.model_dump().items() >= named.items()
    for name in settings.model_dump().keys() - named.keys() - {"steps"}:
        assert getattr(settings, name) in (getattr(card.sampling, name), getattr(DEFAULTS, name))
    assert len(step_table(card.model.schedule, settings).noise) == settings.steps
    assert fitted(card, settings.model_dump()) == settings, "naming the whole result must give the same result"
