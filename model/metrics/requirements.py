"""Finds settings of a recipe with which its evaluations would fail, before any training or drawing."""

from collections.abc import Iterator, Sequence

from darkroom.model.config import EvaluationConfig, SamplingConfig, ScheduleConfig
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.extension_points import METRICS, of_kind
from darkroom.model.metrics.bound import strata
from darkroom.model.metrics.generation import divided, drawing_settings
from darkroom.model.misfit import Misfit
from darkroom.model.samplers.spacing import spaced_times


def evaluation_misfits(
    config: EvaluationConfig, sampling: SamplingConfig, schedule: ScheduleConfig, class_counts: Sequence[int]
) -> Iterator[Misfit]:
    """Yield the recipe's faults that make an evaluation impossible. class_counts: the data set's images of each class.

    sampling: the recipe's sampling settings; their own steps are not checked here.
    """
    of_set, pairs = sum(class_counts), of_kind("pairs", config.metrics)
    for metric in config.metrics:
        least = METRICS[metric].fewest_images
        if config.images < least:
            text = f"is {config.images}, and {metric} needs {least} generated images or more"
            yield Misfit(("evaluation.images", "evaluation.metrics"), text)
        if of_set < least:
            text = f"{metric} needs {least} images of the data set or more, and there are {of_set}"
            yield Misfit(("evaluation.metrics",), text)
    settings = drawing_settings(config, sampling)
    if pairs and not settings.unconditional and max(divided(class_counts, config.images)) < 2:
        name, enough = next(metric for metric in config.metrics if metric in pairs), len(class_counts) + 1
        text = f"is {config.images}, one of a class, and {name} compares two of one: set it to {enough} or more"
        yield Misfit(("evaluation.images", "evaluation.metrics"), text)
    if (pairs or of_kind("features", config.metrics)) and config.steps is not None:
        yield from _steps(schedule, settings, config.steps, "evaluation.steps")
    if "bits_per_dimension" in config.metrics and config.bound_times is not None:
        try:
            strata(schedule.steps, config.bound_times)
        except ValueError as error:
            fields = ("evaluation.bound_times", "evaluation.metrics", "model.schedule.steps")
            yield Misfit(fields, f"{error}; null takes all of them")


def needed_networks(config: EvaluationConfig) -> list[str]:
    """Return the names in `model.extras.NETWORKS` that the evaluation needs."""
    of_metrics = {"perceptual": "efficientnet-lite0", "lpips": "lpips"}
    needed = [of_metrics[metric] for metric in of_kind("pairs", config.metrics)]
    return [config.extractor, *needed] if of_kind("features", config.metrics) else needed


def frontier_misfits(config: EvaluationConfig, sampling: SamplingConfig, schedule: ScheduleConfig) -> Iterator[Misfit]:
    """Yield step counts of the frontier that the schedule does not have; `evaluation_misfits` checks all else."""
    settings = drawing_settings(config, sampling)
    for steps in dict.fromkeys(config.frontier_steps):
        yield from _steps(schedule, settings, steps, "evaluation.frontier_steps")


def _steps(schedule: ScheduleConfig, settings: SamplingConfig, steps: int, field: str) -> Iterator[Misfit]:
    try:
        spaced_times(make_schedule(schedule), settings.spacing, steps)
    except ValueError as error:
        yield Misfit((field, "sampling.spacing", "model.schedule.steps", "model.schedule.name"), str(error))
