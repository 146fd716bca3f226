"""Measuring a checkpoint's frontier, and keeping it in the weights file."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from model.checkpoint import Checkpoint, StoredEvaluation, encode_checkpoint
from model.config import EvaluationConfig, SamplerName, SamplingConfig, ScheduleConfig, SpacingName
from model.datasets.dataset import ImageDataset
from model.denoiser import Denoiser
from model.metrics.evaluation import Evaluation, ReferenceCache, evaluate
from model.metrics.frontier import Measured
from model.metrics.generation import plan_drawing
from model.metrics.protocol import protocol_digest
from model.samplers.spacing import spaced_times
from model.schedule import make_schedule

STEPS = (5, 8, 10, 15, 20, 50, 100, 250, 1000)
"""Step counts at which the literature compares samplers, and all of T = 1000 for the ancestral one."""


def frontier_cells(
    sampling: SamplingConfig, samplers: Sequence[SamplerName], steps: Sequence[int], schedule: ScheduleConfig
) -> tuple[SamplingConfig, ...]:
    """Every sampler at every step count that the spacing has, fewest steps first; all else as in `sampling`."""
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
    known: Iterable[Measured] = (),
    split: str = "train",
) -> Iterator[Evaluation]:
    """The Frechet distance of each cell that `known` does not have, one after the other as they are measured.

    config: says images, seed, batch and extractor; its steps, guidance and metrics give way to the cells'.
    Raises what `model.metrics.evaluation.evaluate` raises, SamplingStopped between and within cells.
    """
    settings = config.model_copy(update={"steps": None, "guidance": None, "metrics": ("fid",)})
    have = [one.protocol for one in known]
    for cell in cells:
        drawn = {
            **plan_drawing(dataset, len(denoiser.class_names), settings, cell).facts,
            "extractor": settings.extractor,
            "reference_dataset_digest": dataset.digest,
            "reference_split": split,
        }
        if any(drawn.items() <= protocol.items() for protocol in have):
            continue
        yield from evaluate(denoiser, weights_digest, dataset, settings, cell, references, should_stop, split=split)


def with_evaluations(checkpoint: Checkpoint, evaluations: Iterable[Measured]) -> bytes:
    """The bytes of the weights file with these figures in its header, in place of older ones of equal protocol.

    Another content, so another address: the weights are the same and the file is a new version.
    """
    kept = {_key(one): one for one in checkpoint.header.evaluations}
    for one in evaluations:
        stored = StoredEvaluation(metric=one.metric, value=one.value, protocol=dict(one.protocol))
        kept[_key(stored)] = stored
    header = checkpoint.header.model_copy(update={"evaluations": tuple(kept.values())})
    return encode_checkpoint(header, checkpoint.weights, checkpoint.snapshot)


def _key(one: Measured) -> tuple[str, str]:
    return one.metric, protocol_digest(one.protocol)
