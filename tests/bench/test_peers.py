"""Laws of the comparison with peers: training and drawing can be interrupted; the table compares equal conditions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.peers import table
from bench.peers.contender import Choice, Settings
from bench.peers.darkroom import CORE_SECONDS, core_seconds
from bench.peers.drawn import Drawn
from bench.peers.sample import BATCH_IMAGES, fill
from bench.peers.train import load_run, new_run
from tests.model.small import random_dataset


def _settings() -> Settings:
    return Settings("diffusers_unet", "small", 3, 4, 1e-3, None, 32)


def _numbers(state: Any) -> list[Any]:
    """Return all leaves of nested containers, in order."""
    if isinstance(state, dict):
        return [leaf for key in state for leaf in _numbers(state[key])]
    if isinstance(state, list | tuple):
        return [leaf for item in state for leaf in _numbers(item)]
    return [state.tolist() if isinstance(state, Tensor) else state]


def test_a_peers_run_in_two_pieces_is_the_run_in_one(tmp_path: Path) -> None:
    dataset = random_dataset(side=28)
    whole = new_run(_settings(), dataset)
    for _ in range(4):
        whole.step(dataset)
    first = new_run(_settings(), dataset)
    for _ in range(2):
        first.step(dataset)
    first.save(tmp_path)
    second = load_run(tmp_path, dataset)
    for _ in range(2):
        second.step(dataset)
    assert second.images_seen == whole.images_seen == 16
    assert second.done == whole.done == 0.5
    assert _numbers(second.contender.state()) == _numbers(whole.contender.state())


def test_guidance_one_is_the_conditional_image_and_others_are_not() -> None:
    run = new_run(_settings(), random_dataset(side=28))
    for _ in range(2):
        run.step(random_dataset(side=28))
    labels = torch.tensor([0, 1])

    def draw(guidance: float) -> Tensor:
        torch.manual_seed(0)
        return run.contender.draw(labels, Choice("dpmpp", 3, guidance))

    assert draw(1.0).shape == (2, 1, 28, 28)
    torch.testing.assert_close(draw(1.0), draw(1.0 + 1e-9))
    assert not torch.allclose(draw(1.0), draw(2.0), atol=1e-4)


@pytest.mark.parametrize("text", ["ddim-50-1", "dpmpp_2m-20-1.5"])
def test_a_choice_is_its_text(text: str) -> None:
    assert str(Choice.parse(text)) == text


@pytest.mark.parametrize("text", ["ddim", "ddim-50", "ddim-x-1", "ddim-50-1-2"])
def test_other_texts_are_no_choice(text: str) -> None:
    with pytest.raises(ValueError, match="SAMPLER-STEPS-GUIDANCE"):
        Choice.parse(text)


def test_more_images_keep_those_that_are_there(tmp_path: Path) -> None:
    drawn_first: list[int] = []

    def draw(labels: Tensor, choice: Choice, first: int) -> Tensor:
        drawn_first.append(first)
        return torch.randn(len(labels), 1, 4, 4, generator=torch.Generator().manual_seed(first))

    path, choice = tmp_path / "a.npz", Choice("ddim", 5, 1.0)
    fill(path, {"seed": 0}, draw, choice, classes=10, images=BATCH_IMAGES)
    before = Drawn.load(path)
    fill(path, {"seed": 0}, draw, choice, classes=10, images=BATCH_IMAGES + 1)
    after = Drawn.load(path)
    assert drawn_first == [0, BATCH_IMAGES]
    assert len(after.labels) == 2 * BATCH_IMAGES
    np.testing.assert_array_equal(after.images[:BATCH_IMAGES], before.images)
    assert not np.array_equal(after.images[BATCH_IMAGES:], before.images)
    assert (after.labels == np.arange(2 * BATCH_IMAGES) % 10).all()
    with pytest.raises(ValueError, match="holds other images"):
        fill(path, {"seed": 1}, draw, choice, classes=10, images=1)


def test_images_are_sorted_into_classes() -> None:
    images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    assert Drawn(images, np.arange(6) % 3, {}).by_class(3).ravel().tolist() == [0, 3, 1, 4, 2, 5]
    with pytest.raises(ValueError, match=r"\[2, 2, 1\]"):
        Drawn(images[:5], np.arange(5) % 3, {}).by_class(3)


def test_processor_time_is_the_sum_of_a_runs_pieces(tmp_path: Path) -> None:
    (tmp_path / CORE_SECONDS).write_text("[100.5, 20.25]")
    assert core_seconds(tmp_path) == 120.75


def _result(contender: str, fid: float, images: int = 1000) -> table.Result:
    name = table.FID.removeprefix("fid-")
    figures = {table.FID: fid, f"kid-{name}": 0.1, f"precision-{name}": 0.5, f"recall-{name}": 0.5, "agreement": 0.9}
    facts = {"version": "1", "network": "small", "parameters": 10, "images_seen": 5, "train_seconds": 2.0}
    drawing = {"sampler": "ddim", "steps": 50, "guidance": 1.0}
    return {"contender": contender, **facts, **drawing, "images": images, "figures": figures}


def test_the_verdict_is_against_the_better_peer_at_its_best() -> None:
    results = [_result("Darkroom", 7.1), _result("A", 10.0), _result("A", 30.0), _result("B", 11.0)]
    assert "0.71 times" in table.verdict(table.best(results))
    assert "missed" in table.verdict(table.best(results))
    assert "reached" in table.verdict(table.best([*results, _result("Darkroom", 6.9)]))


def test_only_results_of_one_number_of_images_are_compared() -> None:
    few = [_result("Darkroom", 9.0), _result("A", 10.0)]
    text = table.table([*few, _result("Darkroom", 1.0, images=5000)])
    assert text.startswith("The best of each with 1,000 images.")
    assert "1.00" not in text
    with pytest.raises(ValueError, match="no number of images is common"):
        table.table([_result("Darkroom", 1.0), _result("A", 1.0, images=5000)])
