"""Laws of the alert rules: each fires when it should and only then, and links to its section of the runbook."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.programs import program

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = PROMETHEUS / "alerts.yml"

Series = dict[str, str]
"""Values by series, one per minute, in promtool's notation: 0+6x20 grows by 6 twenty times."""


@dataclass(frozen=True)
class Case:
    """A test of a rule. It must fire for each of `fires` and none of `silent`, evaluated after `minutes`."""

    fires: tuple[Series, ...]
    silent: tuple[Series, ...]
    minutes: int = 20


UP = 'up{job="api", instance="one"}'
OTHER_UP = 'up{job="api", instance="two"}'


def _requests(status: int, route: str = "/v1/generate") -> str:
    return f'darkroom_http_requests_total{{job="api", route="{route}", status="{status}"}}'


def _steps(slow: str, fast: str) -> Series:
    """Return buckets of engine step durations: `fast` counts steps up to 0.1 s, `slow` those up to 5 s."""
    bucket = 'darkroom_step_duration_seconds_bucket{{instance="one", le="{}"}}'
    return {
        bucket.format("0.1"): fast,
        bucket.format("2.5"): fast,
        bucket.format("5.0"): slow,
        bucket.format("+Inf"): slow,
    }


def _pool(in_use: str) -> Series:
    return {
        'darkroom_database_pool_connections{instance="one", state="in_use"}': in_use,
        'darkroom_database_pool_connections{instance="one", state="idle"}': "10x30",
        'darkroom_database_pool_limit_connections{instance="one"}': "10x30",
    }


REFUSED = 'darkroom_refusals_total{reason="queue_full"}'
ENDED = 'darkroom_sampling_requests_total{outcome="finished"}'
BROKER = 'darkroom_dependency_up{job="worker", instance="one", dependency="broker"}'
AGE = 'darkroom_job_queue_oldest_age_seconds{kind="train"}'
CPU_WORKERS = 'darkroom_workers_alive{instance="one", device="cpu"}'
CUDA_FAULTS = 'darkroom_workers_device_faults{instance="one", device="cuda"}'
CUDA_WORKERS = 'darkroom_workers_alive{instance="one", device="cuda"}'
DIVERGED = 'darkroom_job_failures_total{cause="diverged"}'
CRASHED = 'darkroom_job_failures_total{cause="crashed"}'
NOISE = 'darkroom_training_findings_total{finding="noise", severity="failure"}'
GRAINY = 'darkroom_training_findings_total{finding="grainy", severity="warning"}'
FREE = 'darkroom_disk_free_bytes{job="worker", instance="one"}'
BACKUP = 'darkroom_last_backup_timestamp_seconds{job="api", instance="%s"}'
SIZE = 'darkroom_disk_size_bytes{job="worker", instance="one"}'

CASES = {
    "ApiDown": Case(
        fires=({UP: "0x30"}, {UP: "1x30", OTHER_UP: "1x10 0x20"}, {'up{job="worker"}': "1x30"}),
        silent=({UP: "1x30", OTHER_UP: "1x30"}, {UP: "1x19 0x1 1x10"}),
    ),
    "DependencyDown": Case(fires=({BROKER: "0x30"},), silent=({BROKER: "1x30"}, {BROKER: "1x18 0 1x10"})),
    "HighErrorRatio": Case(
        fires=({_requests(200): "0+90x30", _requests(500): "0+10x30"}, {_requests(503): "0+10x30"}),
        silent=(
            {_requests(200): "0+98x30", _requests(500): "0+2x30"},
            {_requests(200): "0+90x30", _requests(422): "0+90x30"},
            {_requests(200): "0+90x30", _requests(503, "/readyz"): "0+90x30"},
            {_requests(200): "0x30", _requests(500): "0x30"},
        ),
    ),
    "RequestsRefused": Case(
        fires=({REFUSED: "0+10x30", ENDED: "0+90x30"}, {REFUSED: "0+10x30", ENDED: "0x30"}),
        silent=({REFUSED: "0+1x30", ENDED: "0+90x30"}, {REFUSED: "0x30", ENDED: "0x30"}),
    ),
    "EngineStepSlow": Case(
        fires=(_steps(slow="0+100x30", fast="0+90x30"),),
        silent=(_steps(slow="0+100x30", fast="0+99x30"), _steps(slow="0x30", fast="0x30")),
    ),
    "DatabasePoolExhausted": Case(fires=(_pool("10x30"),), silent=(_pool("9x30"), _pool("9x18 10 9x11"))),
    "JobQueueOld": Case(fires=({AGE: "3000+60x30"},), silent=({AGE: "0+60x30"}, {AGE: "3500x19 7200"})),
    "NoWorker": Case(
        fires=({CPU_WORKERS: "1x10 0x20", CUDA_WORKERS: "0x30"},),
        silent=({CPU_WORKERS: "0x30", CUDA_WORKERS: "2x30"}, {CPU_WORKERS: "1x19 0 1x10"}),
    ),
    "WorkerDeviceFault": Case(
        fires=({CUDA_FAULTS: "0x10 1x20"},), silent=({CUDA_FAULTS: "0x30"}, {CUDA_FAULTS: "0x18 1 0x11"})
    ),
    "LeaseLapsed": Case(
        fires=({"darkroom_lease_lapses_total": "3x15 4x15"},),
        silent=({"darkroom_lease_lapses_total": "3x30"}, {"darkroom_lease_lapses_total": "3 4x30"}),
    ),
    "TrainingDiverged": Case(fires=({DIVERGED: "0x15 1x15"},), silent=({DIVERGED: "1x30", CRASHED: "0x15 9x15"},)),
    "TrainingFails": Case(fires=({NOISE: "0x15 1x15"},), silent=({NOISE: "1x30", GRAINY: "0x15 9x15"},)),
    "DiskNearlyFull": Case(
        fires=({FREE: "5x30", SIZE: "100x30"},),
        silent=({FREE: "15x30", SIZE: "100x30"}, {FREE: "50x15 5x15", SIZE: "100x30"}),
    ),
    "BackupOld": Case(
        fires=({BACKUP % "one": "3600x1700", BACKUP % "two": "0x1700"}, {UP: "1x1700"}),
        silent=(
            {UP: "1x1700", BACKUP % "one": "36000x1700"},
            {BACKUP % "one": "0x1700", BACKUP % "two": "36000x1700"},
            {UP: "_x200 1x1500"},  # younger than a day
            {UP: "1x1500 0x200", BACKUP % "one": "0x1500 _x200"},  # the API is away; another alert says so
            {},
        ),
        minutes=1660,
    ),
}


def rules() -> dict[str, dict[str, Any]]:
    """Return the alert rules by name."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_rule_has_cases() -> None:
    assert CASES.keys() == rules().keys()


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_fires_when_it_should_and_only_then(alert: str, tmp_path: Path) -> None:
    case = CASES[alert]
    expected = [(series, 1) for series in case.fires] + [(series, 0) for series in case.silent]
    tests = [
        {
            "name": f"{alert}, {'fires' if firing else 'silent'}: {series}",
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)',
                    "eval_time": f"{case.minutes}m",
                    "exp_samples": [{"labels": "{}", "value": firing}],
                }
            ],
        }
        for series, firing in expected
    ]
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": tests}), encoding="utf-8")
    done = subprocess.run(
        [program("promtool"), "test", "rules", str(file)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_says_what_it_is_and_leads_to_its_page(alert: str) -> None:
    rule = rules()[alert]
    assert rule["labels"].keys() == {"severity"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert anchor == alert.lower()
    assert anchor in _anchors(ROOT / page)


def test_rules_and_configuration_are_valid() -> None:
    for check in (["rules", str(RULES)], ["config", "--syntax-only", str(PROMETHEUS / "prometheus.yml")]):
        done = subprocess.run([program("promtool"), "check", *check], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
