"""The training loop and its record: states that it resumes from, starting points, evaluations, and stopping."""

import io
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import darkroom.model.metrics.evaluation
import darkroom.model.training.run
from darkroom.model.checkpoint import CheckpointError, decode_checkpoint
from darkroom.model.config import Recipe
from darkroom.model.datasets.dataset import ImageDataset
from darkroom.model.diffusion.denoiser import Denoiser
from darkroom.model.digest import digest_of
from darkroom.model.figure import Figure
from darkroom.model.metrics.evaluation import EvaluationError
from darkroom.model.metrics.references import FolderReferences
from darkroom.model.training.run import StartingPoint, StateStart, TrainingResult, WeightsStart, train
from darkroom.model.training.run_record import FolderRecord
from darkroom.model.training.trainer import Trainer
from tests.model.small import random_dataset, small_recipe, small_unet
from tests.model.training.memory_record import MemoryRecord

CPU = torch.device("cpu")
END = 96


def weights_of(data: bytes) -> dict[str, torch.Tensor]:
    return dict(decode_checkpoint(data, source="weights").weights)


def assert_same_weights(one: bytes, other: bytes) -> None:
    ours, theirs = weights_of(one), weights_of(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert torch.equal(value, theirs[name]), name


@pytest.fixture(scope="module")
def whole() -> MemoryRecord:
    """Return the record of an uninterrupted run of the small recipe."""
    record = MemoryRecord()
    assert train(small_recipe(), random_dataset(), record, device=CPU) == TrainingResult(END, True)
    return record


def copy_until(record: MemoryRecord, images_seen: int) -> MemoryRecord:
    return MemoryRecord({seen: pair for seen, pair in record.checkpoints.items() if seen <= images_seen})


def test_a_damaged_state_is_passed_over_for_the_one_before(
    whole: MemoryRecord, caplog: pytest.LogCaptureFixture
) -> None:
    record = copy_until(whole, 48)
    weights, state = record.checkpoints[48]
    record.checkpoints[48] = weights, state[:-1]
    with caplog.at_level(logging.WARNING):
        assert train(small_recipe(), random_dataset(), record, device=CPU).finished
    assert record.calls[0] == ("begin", 32)
    assert "state 48: not a readable" in caplog.text
    assert_same_weights(record.checkpoints[END][0], whole.checkpoints[END][0])


def test_when_every_state_is_damaged_nothing_begins_anew(whole: MemoryRecord) -> None:
    record = MemoryRecord(
        {seen: (weights, b"torn") for seen, (weights, _) in copy_until(whole, 48).checkpoints.items()}
    )
    with pytest.raises(CheckpointError, match="state 48: not a readable"):
        train(small_recipe(), random_dataset(), record, device=CPU)
    assert record.calls == []


def test_the_newest_state_of_another_recipe_is_refused_though_an_older_one_would_do(whole: MemoryRecord) -> None:
    record = copy_until(whole, 32)
    other = Trainer(small_recipe(training__seed=4), random_dataset(), CPU)
    record.checkpoints[48] = b"", other.state()
    with pytest.raises(CheckpointError, match="state 48: was written by another recipe"):
        train(small_recipe(), random_dataset(), record, device=CPU)


def test_a_run_from_weights_begins_at_no_images_with_those_weights(whole: MemoryRecord) -> None:
    weights = whole.checkpoints[48][0]
    record = MemoryRecord()
    other = random_dataset(seed=5)  # a fine-tune on other images with the same number of classes
    start = WeightsStart("the model", weights)
    result = train(small_recipe(), other, record, device=CPU, start=start, should_stop=lambda: True)
    assert result == TrainingResult(0, False)
    assert record.calls == [("begin", 0), ("checkpoint", 0)]
    assert_same_weights(record.checkpoints[0][0], weights)

    trainer = Trainer(small_recipe(), other, CPU)
    trainer.start_from(weights, source="the model")
    assert all(torch.equal(value, trainer.ema.weights[name]) for name, value in trainer.network.state_dict().items())


def test_a_run_from_another_runs_state_goes_on_as_that_run_would_have(whole: MemoryRecord) -> None:
    """With the other run's own recipe, the continuation equals that run's continuation."""
    record = MemoryRecord()
    start = StateStart("job 7", whole.checkpoints[48][1])
    assert train(small_recipe(), random_dataset(), record, device=CPU, start=start).finished
    assert record.calls[0] == ("begin", 48)
    assert set(record.checkpoints) == {64, 80, END}
    assert_same_weights(record.checkpoints[END][0], whole.checkpoints[END][0])


def test_a_run_may_be_continued_beyond_its_end(whole: MemoryRecord) -> None:
    longer, record = small_recipe(training__total_images=END + 32), MemoryRecord()
    start = StateStart("job 7", whole.checkpoints[END][1])
    assert train(longer, random_dataset(), record, device=CPU, start=start) == TrainingResult(END + 32, True)
    assert set(record.checkpoints) == {END + 16, END + 32}

    resumed = copy_until(record, END + 16)  # the run's own state takes precedence over its starting point
    resumed.calls.clear()
    assert train(longer, random_dataset(), resumed, device=CPU, start=start).finished
    assert resumed.calls[0] == ("begin", END + 16)
    assert_same_weights(resumed.checkpoints[END + 32][0], record.checkpoints[END + 32][0])


@pytest.mark.parametrize(
    "changes",
    [
        {"model__unet": small_unet(width=32).model_dump()},
        {"model__unet": small_unet(attention_head_channels=16).model_dump()},  # equal shapes, but another function
    ],
    ids=["width", "heads"],
)
@pytest.mark.parametrize("kind", ["weights", "state"])
def test_a_start_of_another_network_is_refused(whole: MemoryRecord, kind: str, changes: dict[str, Any]) -> None:
    weights, state = whole.checkpoints[48]
    start: StartingPoint = WeightsStart("the start", weights) if kind == "weights" else StateStart("the start", state)
    with pytest.raises(CheckpointError, match=r"the start: does not fit the recipe: model\.unet\."):
        train(small_recipe(**changes), random_dataset(), MemoryRecord(), device=CPU, start=start)


def test_a_start_of_other_classes_or_another_data_set_is_refused(whole: MemoryRecord) -> None:
    weights, state = whole.checkpoints[48]
    dataset = random_dataset()
    fewer = type(dataset)(dataset.images, dataset.labels % 2, dataset.class_names[:2], "sha256:fewer")
    with pytest.raises(CheckpointError, match="3 classes, and the data set has 2"):
        train(small_recipe(), fewer, MemoryRecord(), device=CPU, start=WeightsStart("the start", weights))
    with pytest.raises(CheckpointError, match="the start: was trained on another data set"):
        train(small_recipe(), random_dataset(seed=1), MemoryRecord(), device=CPU, start=StateStart("the start", state))
    for start in (WeightsStart("the start", weights[:99]), StateStart("the start", state[:99])):
        with pytest.raises(CheckpointError, match="the start: not a readable"):
            train(small_recipe(), dataset, MemoryRecord(), device=CPU, start=start)


def named(*names: str) -> ImageDataset:
    """Return the small data set with other names for its three classes."""
    return replace(random_dataset(), class_names=names, digest=f"sha256:{names}")


def test_classes_begin_with_what_was_learnt_of_their_names(whole: MemoryRecord) -> None:
    weights = whole.checkpoints[48][0]
    learnt = weights_of(weights)["class_embedding.weight"]
    circle, square, cross, none = learnt
    for names, rows in (
        (("cross", "circle", "square"), (cross, circle, square, none)),
        (("square", "hat", "shoe"), (circle, square, cross, none)),  # classes with other names are matched by number
        (("circle", "circle", "circle"), (circle, square, cross, none)),
    ):
        trainer = Trainer(small_recipe(), named(*names), CPU)
        trainer.start_from(weights, source="the model")
        assert torch.equal(trainer.network.class_embedding.weight, torch.stack(rows))
        assert torch.equal(trainer.ema.weights["class_embedding.weight"], torch.stack(rows))


@pytest.mark.parametrize(
    ("changes", "of_weights"),
    [
        ({"model__prediction": "x0"}, True),
        ({"model__schedule": {"name": "linear", "steps": 100}}, True),
        ({"model__schedule": {"steps": 200}}, True),
        ({"model__unet__width": 32}, True),
        ({"optimizer__name": "muon"}, False),
    ],
)
def test_what_a_start_fixes_is_refused_by_name(whole: MemoryRecord, changes: dict[str, Any], of_weights: bool) -> None:
    weights, state = whole.checkpoints[48]
    recipe = small_recipe(**changes)
    field = ".".join(next(iter(changes)).split("__"))
    with pytest.raises(CheckpointError, match=f"the start: does not fit the recipe: {field}"):
        train(recipe, random_dataset(), MemoryRecord(), device=CPU, start=StateStart("the start", state))
    trainer = Trainer(recipe, random_dataset(), CPU)
    if of_weights:
        with pytest.raises(CheckpointError, match=f"the start: does not fit the recipe: {field}"):
            trainer.start_from(weights, source="the start")
    else:
        trainer.start_from(weights, source="the start")


@pytest.mark.parametrize(
    "changes",
    [
        {"model__unet__dropout": 0.0},
        {"optimizer__learning_rate": 1e-3, "optimizer__betas": (0.8, 0.9), "optimizer__decay": "constant"},
        {"ema": {"warmup": "power"}},
        {"ema": {"warmup": "ramp", "decay": 0.99}},
        {"objective": {"weighting": "min_snr", "times": {"name": "normal"}}},
        {"training__batch_size": 16, "training__seed": 9, "training__total_images": 200},
    ],
)
def test_all_else_may_change_and_trains(whole: MemoryRecord, changes: dict[str, Any]) -> None:
    weights, state = whole.checkpoints[48]
    starts: tuple[StartingPoint, ...] = (StateStart("the start", state), WeightsStart("the start", weights))
    for start in starts:
        record = MemoryRecord()
        assert train(small_recipe(**changes), random_dataset(), record, device=CPU, start=start).finished


class Judge:
    """Replaces `evaluate`: records its arguments, and calls the network for one step."""

    def __init__(self) -> None:
        self.digests: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def __call__(self, denoiser: Denoiser, weights_digest: str, *arguments: Any) -> tuple[Figure, ...]:
        self.meanwhile()
        arguments[-1]("drawing images", 1, 2)
        t, labels = torch.tensor([50]), torch.tensor([0])
        torch.manual_seed(99)  # an evaluation must not change the random numbers of training
        with torch.no_grad():
            value = denoiser.estimate(torch.ones(1, *denoiser.image_shape), t, labels, torch.ones(1))[0].sum()
        self.digests.append(weights_digest)
        return (Figure("distance", float(value), {"images": 2, "variance": None}, 0.5),)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    judge = Judge()
    monkeypatch.setattr(darkroom.model.metrics.evaluation, "evaluate", judge)
    return judge


@pytest.fixture
def references(tmp_path: Path) -> FolderReferences:
    return FolderReferences(tmp_path / "references")


def judged_recipe() -> Recipe:
    """Return a recipe with checkpoints at 16, 32, ... images and evaluations at 40, 80 and the end."""
    return small_recipe(evaluation={"every_images": 40, "images": 2})


def test_checkpoints_are_evaluated_when_due_and_at_the_end(
    whole: MemoryRecord, judge: Judge, references: FolderReferences
) -> None:
    record, told = MemoryRecord(), []
    result = train(
        judged_recipe(),
        random_dataset(),
        record,
        device=CPU,
        references=references,
        on_measurement=lambda *news: told.append(news),
    )
    assert result.finished
    assert list(record.evaluations) == [40, 80, END]
    assert told == [("drawing images", 1, 2)] * 3
    assert judge.digests == [digest_of(record.checkpoints[seen][0]) for seen in (40, 80, END)]
    for seen in (40, 80, END):  # right after the checkpoint at the same images
        before = [
            call
            for call in record.calls[: record.calls.index(("evaluation", seen))]
            if call[0] not in ("samples", "verdict")
        ]
        assert before[-1] == ("checkpoint", seen)
    assert len({evaluation.value for (evaluation,) in record.evaluations.values()}) == 3
    for seen in (16, 32, 48, 64, 80, END):  # training is unchanged
        assert_same_weights(record.checkpoints[seen][0], whole.checkpoints[seen][0])


@pytest.mark.parametrize("lost", [40, END])
def test_a_resumed_run_makes_the_evaluation_that_a_kill_prevented(
    judge: Judge, references: FolderReferences, lost: int
) -> None:
    undisturbed = MemoryRecord()
    train(judged_recipe(), random_dataset(), undisturbed, device=CPU, references=references)
    record = copy_until(undisturbed, lost)
    record.evaluations = {seen: kept for seen, kept in undisturbed.evaluations.items() if seen < lost}
    assert train(judged_recipe(), random_dataset(), record, device=CPU, references=references).finished
    assert record.evaluations == undisturbed.evaluations
    assert record.calls[:2] == [("begin", lost), ("evaluation", lost)]


def test_an_evaluation_is_not_repeated(judge: Judge, references: FolderReferences) -> None:
    record = MemoryRecord()
    for _ in range(2):
        assert train(judged_recipe(), random_dataset(), record, device=CPU, references=references).finished
    assert len(judge.digests) == 3


@pytest.mark.parametrize("moment", [40, END])
def test_a_stop_during_an_evaluation_abandons_it(judge: Judge, references: FolderReferences, moment: int) -> None:
    record, stopped = MemoryRecord(), False

    def stop() -> None:
        nonlocal stopped
        stopped = max(record.checkpoints) == moment

    judge.meanwhile = stop
    result = train(
        judged_recipe(), random_dataset(), record, device=CPU, references=references, should_stop=lambda: stopped
    )
    assert result == TrainingResult(moment, False)
    assert moment not in record.evaluations
    stopped, judge.meanwhile = False, lambda: None
    assert train(judged_recipe(), random_dataset(), record, device=CPU, references=references).finished
    assert list(record.evaluations) == [40, 80, END]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (EvaluationError("no"), "no"),
        (ValueError(), "ValueError: "),
        (torch.OutOfMemoryError("CUDA out of memory"), "OutOfMemoryError: CUDA out of memory"),
        (RuntimeError("first line\nsecond"), "RuntimeError: first line"),
    ],
)
def test_a_failed_evaluation_is_recorded_and_training_continues(
    whole: MemoryRecord,
    judge: Judge,
    references: FolderReferences,
    caplog: pytest.LogCaptureFixture,
    fault: Exception,
    said: str,
) -> None:
    record = MemoryRecord()

    def fail() -> None:
        if max(record.checkpoints) != 80:
            raise fault

    judge.meanwhile = fail
    assert train(judged_recipe(), random_dataset(), record, device=CPU, references=references).finished
    assert record.failures == [("evaluation", 40, said), ("evaluation", END, said)]
    assert list(record.evaluations) == [80]
    assert f"evaluation failed after 40 images; the training goes on: {said}" in caplog.text
    assert_same_weights(record.checkpoints[END][0], whole.checkpoints[END][0])

    judge.meanwhile = lambda: None  # a restarted run repeats the last failed evaluation
    assert train(judged_recipe(), random_dataset(), record, device=CPU, references=references).finished
    assert list(record.evaluations) == [80, END]


def test_a_failed_sample_grid_is_recorded_and_training_continues(
    whole: MemoryRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(darkroom.model.training.run, "sample", full)
    record = MemoryRecord()
    recipe = small_recipe(training__sample_every_images=40)
    assert train(recipe, random_dataset(), record, device=CPU).finished
    said = "OutOfMemoryError: CUDA out of memory"
    assert record.failures == [("samples", seen, said) for seen in (40, 80, END)]
    assert record.pictures == {}
    assert_same_weights(record.checkpoints[END][0], whole.checkpoints[END][0])


def test_a_sample_grid_has_no_line_for_a_class_without_images() -> None:
    full = random_dataset()
    last = len(full.class_names) - 1
    lacking = replace(full, labels=full.labels.clip(max=last - 1))
    heights = []
    for dataset in (full, lacking):
        record = MemoryRecord()
        train(small_recipe(training__sample_every_images=40), dataset, record, device=CPU)
        heights.append(Image.open(io.BytesIO(record.pictures[40])).height)
    assert heights[0] - heights[1] == 2 * (full.images.shape[2] + 2)  # pixels are doubled, a gap is two pixels


def test_a_record_that_fails_ends_the_run(judge: Judge, references: FolderReferences) -> None:
    class Full(MemoryRecord):
        def evaluation(self, images_seen: int, evaluations: Sequence[Figure]) -> None:
            raise OSError("no space left")

    record = Full()
    with pytest.raises(OSError, match="no space left"):
        train(judged_recipe(), random_dataset(), record, device=CPU, references=references)
    assert record.failures == []


def test_a_stop_during_a_sample_grid_abandons_it_within_a_step() -> None:
    recipe = small_recipe(training__sample_every_images=24, sampling={"steps": 50})
    record, asked = MemoryRecord(), 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3 + 10  # three calls before iterations, then calls within the grid

    result = train(recipe, random_dataset(), record, device=CPU, should_stop=should_stop)
    assert result == TrainingResult(24, False)
    assert asked == 14  # a stop request is final
    assert record.pictures == {}
    assert max(record.checkpoints) == 24


def test_a_folder_stores_evaluations_by_line_and_drops_those_after_its_state(tmp_path: Path) -> None:
    record = FolderRecord(tmp_path, "small")
    record.begin(0)
    first, second = (Figure(name, 1.5, {"images": 2, "variance": None}, 0.25) for name in ("one", "two"))
    record.evaluation(40, [first, second])
    record.evaluation(80, [first])
    record.evaluation(40, [second, first])  # a second evaluation replaces the first
    assert [record.evaluated(seen) for seen in (0, 40, 80)] == [False, True, True]
    lines = [json.loads(line) for line in (tmp_path / "evaluations.jsonl").read_text().splitlines()]
    assert [(line["images_seen"], line["metric"]) for line in lines] == [(80, "one"), (40, "two"), (40, "one")]
    assert lines[0] == {
        "images_seen": 80,
        "metric": "one",
        "value": 1.5,
        "protocol": {"images": 2, "variance": None},
        "seconds": 0.25,
    }
    again = FolderRecord(tmp_path, "small")
    again.begin(64)
    assert [again.evaluated(seen) for seen in (40, 80)] == [True, False]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("has_instructions", [False, True])
def test_a_precision_that_the_cpu_emulates_gives_a_warning(
    precision: str, has_instructions: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(darkroom.model.training.run, "multiplies_bfloat16", lambda: has_instructions)
    recipe = small_recipe(training__precision=precision, training__total_images=8)
    with caplog.at_level(logging.WARNING):
        assert train(recipe, random_dataset(), MemoryRecord(), device=CPU).finished
    warned = "no instructions for bfloat16" in caplog.text
    assert warned is (precision == "bfloat16" and not has_instructions)
