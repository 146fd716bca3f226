"""What an evaluation needs that its recipe may not give it: found out before anything is trained or drawn."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from model.config import EvaluationConfig, SamplingConfig, ScheduleConfig
from model.fitting import Misfit
from model.metrics import fid, kid, precision_recall
from model.metrics.bound import strata
from model.metrics.generation import divided, drawing_settings
from model.metrics.names import IN_FEATURES, PERCEPTUAL, MetricName
from model.samplers.spacing import spaced_times
from model.schedule import make_schedule

FEWEST_IMAGES: Mapping[MetricName, int] = MappingProxyType(
    {
        "fid": fid.FEWEST_IMAGES,
        "kid": kid.FEWEST_IMAGES,
        "precision_recall": precision_recall.FEWEST_IMAGES,
    }
)
"""How many images of each side a metric needs; one is enough for the others."""


def evaluation_misfits(
    config: EvaluationConfig, sampling: SamplingConfig, schedule: ScheduleConfig, class_counts: Sequence[int]
) -> Iterator[Misfit]:
    """What makes an evaluation impossible, by the recipe's fields. class_counts: the data set's images of each class.

    sampling: the recipe's; whether its own steps are possible is not asked here.
    """
    asked, of_set = set(config.metrics), sum(class_counts)
    for metric in config.metrics:
        least = FEWEST_IMAGES.get(metric, 1)
        if config.images < least:
            text = f"is {config.images}, and {metric} needs {least} generated images or more"
            yield Misfit(("evaluation.images", "evaluation.metrics"), text)
        if of_set < least:
            text = f"{metric} needs {least} images of the data set or more, and there are {of_set}"
            yield Misfit(("evaluation.metrics",), text)
    settings = drawing_settings(config, sampling)
    if asked & PERCEPTUAL and not settings.unconditional and max(divided(class_counts, config.images)) < 2:
        name, enough = next(metric for metric in config.metrics if metric in PERCEPTUAL), len(class_counts) + 1
        text = f"is {config.images}, one of a class, and {name} compares two of one: set it to {enough} or more"
        yield Misfit(("evaluation.images", "evaluation.metrics"), text)
    if asked & (IN_FEATURES | PERCEPTUAL) and config.steps is not None:
        yield from _steps(schedule, settings, config.steps, "evaluation.steps")
    if "bits_per_dimension" in asked and config.bound_times is not None:
        try:
            strata(schedule.steps, config.bound_times)
        except ValueError as error:
            fields = ("evaluation.bound_times", "evaluation.metrics", "model.schedule.steps")
            yield Misfit(fields, f"{error}; null takes all of them")


def frontier_misfits(config: EvaluationConfig, sampling: SamplingConfig, schedule: ScheduleConfig) -> Iterator[Misfit]:
    """Points of the frontier that the schedule does not have; `evaluation_misfits` has what else its fid needs."""
    settings = drawing_settings(config, sampling)
    for steps in dict.fromkeys(config.frontier_steps):
        yield from _steps(schedule, settings, steps, "evaluation.frontier_steps")


def _steps(schedule: ScheduleConfig, settings: SamplingConfig, steps: int, field: str) -> Iterator[Misfit]:
    try:
        spaced_times(make_schedule(schedule), settings.spacing, steps)
    except ValueError as error:
        yield Misfit((field, "sampling.spacing", "model.schedule.steps", "model.schedule.name"), str(error))
