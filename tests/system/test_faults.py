"""Law of the fault campaign: despite all faults, every job finishes once, with the weights of a run without faults."""

from pathlib import Path

import pytest

from tests.system.cluster import cluster
from tests.system.faults import WORKERS, run_campaign
from tests.system.test_jobs import long_recipe, undisturbed

FAULTS = 50
JOBS = 4
TIMEOUT_SECONDS = 1800


@pytest.mark.timeout(TIMEOUT_SECONDS)
def test_whatever_dies_every_job_finishes_once_with_the_weights_of_an_undisturbed_run(tmp_path: Path) -> None:
    recipe = long_recipe(training__total_images=1600, training__checkpoint_every_images=200)
    with cluster(tmp_path, *WORKERS, STEP_PAUSE_SECONDS="0.04") as running:
        report = run_campaign(running, recipe, JOBS, FAULTS, seed=1)
    print(report.table())
    assert sum(report.faults.values()) == FAULTS
    assert set(report.statuses.values()) == {"succeeded"}
    assert set(report.finished.values()) == {1}
    assert not report.doubled
    assert report.broken_laws == []
    assert set(report.weights.values()) == {undisturbed(recipe)}
