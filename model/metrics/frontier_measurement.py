"""Measures a checkpoint's frontier, and stores it in the weights file."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from darkroom.model.checkpoint import Checkpoint, encode_checkpoint
from darkroom.model.config import EvaluationConfig, SamplerName, SamplingConfig, ScheduleConfig, SpacingName
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.diffusion.schedule import make_schedule
from darkroom.model.figure import Figure
from darkroom.model.metrics.evaluation import ReferenceCache, evaluate
from darkroom.model.metrics.generation import plan_drawing
from darkroom.model.samplers.spacing import spaced_times

STEPS = (5, 8, 10, 15, 20, 50, 100, 250, 1000)
"""Step counts at which papers compare samplers, and all T = 1000 for ancestral sampling."""


def frontier_cells(
    sampling: SamplingConfig, samplers: Sequence[SamplerName], steps: Sequence[int], schedule: ScheduleConfig
) -> tuple[SamplingConfig, ...]:
    """Return `sampling` with every sampler at every step count that the spacing has, fewest steps first."""
    return tuple(
        sampling.model_copy(update={"sampler": sampler, "steps": count})
        for count in sorted(set(steps))
        if _has(schedule, sampling.spacing, count)
        for sampler in dict.fromkeys(samplers)
    )


def _has(schedule: ScheduleConfig, spacing: SpacingName, steps: int) -> bool:
    try:
        spaced_times(make_schedule(schedule), spacing, steps)
    except ValueError:
        return False
    return True


def measure_frontier(
    denoiser: Denoiser,
    weights_digest: str,
    dataset: ImageDataset,
    config: EvaluationConfig,
    cells: Iterable[SamplingConfig],
    references: ReferenceCache,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    known: Iterable[Figure] = (),
    split: str = "train",
) -> Iterator[Figure]:
    """Measure the Fréchet distance of each cell that `known` lacks, and yield each figure once it is measured.

    config: gives images, seed, batch and extractor; its steps, guidance and metrics are not used.
    Raises the errors of `evaluate`; SamplingStopped between and within cells.
    """
    settings = config.model_copy(update={"steps": None, "guidance": None, "metrics": ("fid",)})
    have = [one.protocol for one in known]
    for cell in cells:
        drawn = {
            **plan_drawing(dataset, len(denoiser.class_names), settings, cell).facts,
            **denoiser.device_facts,
            "extractor": settings.extractor,
            "reference_dataset_digest": dataset.digest,
            "reference_split": split,
        }
        if any(drawn.items() <= protocol.items() for protocol in have):
            continue
        yield from evaluate(denoiser, weights_digest, dataset, settings, cell, references, should_stop, split=split)


def with_evaluations(checkpoint: Checkpoint, evaluations: Iterable[Figure]) -> bytes:
    """Return the bytes of the weights file with these figures in its header; they replace those of equal protocol.

    The weights stay the same, but the file has a new digest and so is a new version.
    """
    kept = {(one.metric, one.protocol_digest): one for one in [*checkpoint.header.evaluations, *evaluations]}
    header = checkpoint.header.model_copy(update={"evaluations": tuple(kept.values())})
    return encode_checkpoint(header, checkpoint.weights, checkpoint.snapshot)
