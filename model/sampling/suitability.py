"""Finds sampling settings that are valid but with which a given model would draw noise."""

from collections.abc import Iterator

from darkroom.model.config import ModelConfig, SamplingConfig
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.samplers.spacing import HIGHEST

Fault = tuple[str, str]
"""(name of a field, what is wrong with it and what to do)."""

EPS_HIGHEST = 1000.0
"""Above this sigma/alpha the x_0 estimate of an eps-prediction is noise, unless thresholding bounds it.

Measured on scikit-learn's digits: the linear schedule's 157 does no harm, the cosine schedule's 20,000 leaves noise.
Samplers accept such levels: with an exact prediction their result is exact.
"""

NO_NULL_CLASS = "the model was trained with objective.label_drop 0, so it never learned to draw without a class"


def needs_null_class(sampling: SamplingConfig) -> bool:
    """Return True when drawing needs the network's prediction without a class."""
    return sampling.guidance != 1.0 and sampling.guide == "unconditional"


def drawing_faults(model: ModelConfig, sampling: SamplingConfig, *, null_class: bool) -> Iterator[Fault]:
    """Yield the settings with which the model would draw noise. null_class: as in `Denoiser`."""
    if needs_null_class(sampling) and not null_class:
        yield "guidance", f"is {sampling.guidance:g}, and {NO_NULL_CLASS}: set it to 1, or guide by a snapshot"
    schedule = make_schedule(model.schedule)
    highest = float(schedule.sigma[-1] / schedule.alpha[-1])
    unbounded = (model.prediction, sampling.spacing, sampling.threshold) == ("eps", "trailing", "none")
    if unbounded and highest > EPS_HIGHEST:
        yield (
            "threshold",
            f"is none, and the model predicts eps: spacing trailing begins at sigma/alpha {highest:,.0f}, which "
            "multiplies every error of the network. Set it to static or dynamic, or use spacing log_snr, edm or "
            f"edm_coarse, which begin at {HIGHEST:g}",
        )
