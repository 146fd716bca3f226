"""Combines a model's own sampling settings with those that a caller names, and finds settings that clash.

The service, `darkroom evaluate` and the Python package call `fitted`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError

from darkroom.model.checkpoint import CheckpointHeader
from darkroom.model.config import SamplingConfig, SettingsError, faults_of, require_known, require_numbers
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.extension_points import SAMPLERS
from darkroom.model.samplers.spacing import most_steps, spaced_times
from darkroom.model.sampling.suitability import drawing_faults


@dataclass(frozen=True)
class Clash:
    """Settings that do not go together.

    remedies: values that resolve the clash, by setting, in the order in which the settings give way.
    detail: why they clash; None where images can be drawn nevertheless, so that a caller may name all of them.
    """

    remedies: Mapping[str, Any]
    detail: str | None


Check = Callable[[SamplingConfig], Clash | None]


class Unfit(ValueError):
    """The caller named settings that do not go together. fields: their names."""

    def __init__(self, fields: Sequence[str], detail: str) -> None:
        super().__init__(detail)
        self.fields = tuple(fields)


def fitted(header: CheckpointHeader, named: Mapping[str, Any], more: Sequence[Check] = ()) -> SamplingConfig:
    """Return the model's own settings with the named ones, which are never changed.

    A setting of the model that clashes with the named ones takes its default. Settings give way in this order:
    `spacing`, `steps` (the default, or as many as there are), `guide`, `variance`, `guidance`, `threshold`,
    `guidance_interval`, and those of the checks in `more`. Raises Unfit when named settings clash, and pydantic's
    ValidationError for a value that is never valid.
    """
    settings = SamplingConfig.model_validate(header.sampling.model_dump() | dict(named))
    checks: list[Check] = [partial(check, header) for check in (_steps, _guide, _variance, suits)]
    if "guidance" in named:
        checks.append(_unconditional)
    for check in (*checks, *more):
        settings = _mended(settings, named, check)
    return settings


def fitted_for_user(header: CheckpointHeader, named: Mapping[str, Any], more: Sequence[Check] = ()) -> SamplingConfig:
    """Like `fitted`, but raises SettingsError for whatever is wrong with the named settings."""
    require_known(named, SamplingConfig.model_fields)
    try:
        settings = fitted(header, named, more)
    except ValidationError as error:
        raise SettingsError(faults_of(error)) from error
    except Unfit as unfit:
        raise SettingsError(f"{', '.join(unfit.fields)}: {unfit}") from unfit
    require_numbers(named, settings)
    return settings


def suited(header: CheckpointHeader, settings: SamplingConfig, named: Collection[str]) -> SamplingConfig:
    """Return the settings without those with which this model would draw noise; raises Unfit where those are named."""
    return _mended(settings, named, partial(suits, header))


def _mended(settings: SamplingConfig, named: Collection[str], check: Check) -> SamplingConfig:
    while (clash := check(settings)) is not None:
        remedies = [{name: value} for name, value in clash.remedies.items() if name not in named]
        untried = [one for one in remedies if settings.model_copy(update=one) != settings]
        if not untried:
            if clash.detail is None:
                break
            raise Unfit(tuple(clash.remedies), clash.detail)
        settings = settings.model_copy(update=untried[0])
    return settings


def _default(name: str) -> Any:
    return SamplingConfig.model_fields[name].default


def _steps(header: CheckpointHeader, sampling: SamplingConfig) -> Clash | None:
    schedule = make_schedule(header.model.schedule)
    fewer = {"steps": min(_default("steps"), most_steps(schedule, sampling.spacing))}
    if sampling.steps > schedule.steps:
        return Clash(fewer, f"the model has {schedule.steps} diffusion steps")
    try:
        spaced_times(schedule, sampling.spacing, sampling.steps)
    except ValueError as error:
        return Clash({"spacing": _default("spacing")} | fewer, str(error))
    return None


def _unconditional(sampling: SamplingConfig) -> Clash | None:
    """Guidance 0 means without a class; the model's own interval or guide `snapshot` would bring the class back."""
    if sampling.guidance != 0.0:
        return None
    everywhere = {name: _default(name) for name in ("guide", "guidance_interval")}
    kept = {name: value for name, value in everywhere.items() if getattr(sampling, name) != value}
    return Clash(kept, None) if kept else None


def _guide(header: CheckpointHeader, sampling: SamplingConfig) -> Clash | None:
    if sampling.guide != "snapshot" or header.snapshot is not None:
        return None
    return Clash({"guide": _default("guide")}, "the model carries no snapshot to guide by")


def _variance(header: CheckpointHeader, sampling: SamplingConfig) -> Clash | None:
    if sampling.variance != "learned" or header.model.learned_variance:
        return None
    return Clash({"variance": _default("variance")}, "the model has not learned variances")


def deterministic(sampling: SamplingConfig) -> Clash | None:
    """A check for interpolation: noise on the way would leave nothing of the path between two start noises."""
    if SAMPLERS[sampling.sampler].adds_noise:
        noisy = ", ".join(name for name, sampler in SAMPLERS.items() if sampler.adds_noise)
        return Clash({"sampler": "ddim"}, f"interpolation needs a deterministic sampler: any but {noisy}")
    if "eta" in SAMPLERS[sampling.sampler].takes and sampling.eta != 0.0:
        return Clash({"eta": 0.0}, f"interpolation needs a deterministic sampler: {sampling.sampler} with eta 0")
    return None


def suits(header: CheckpointHeader, sampling: SamplingConfig) -> Clash | None:
    """Return the first setting with which this model would draw noise."""
    for field, text in drawing_faults(header.model, sampling, null_class=header.null_class):
        return Clash({field: _default(field)}, text)
    return None
