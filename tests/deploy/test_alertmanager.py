"""Laws of Alertmanager's configuration: each receiver that the operator names is in it, and nothing that breaks it."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.compose import ROOT, services
from tests.programs import program

START = ROOT / "deploy" / "alertmanager" / "start"
WEBHOOK = "https://chat.example/hooks/it's-a-secret?x=1"


def _start(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {"PATH": os.environ["PATH"], "ALERT_WEBHOOK_FILE": str(folder / "webhook")}
    command = [str(START), str(folder / "made.yml"), "echo", "started"]
    return subprocess.run(command, env=known | environment, capture_output=True, text=True, check=False)


def _made(folder: Path) -> Any:
    file = folder / "made.yml"
    assert file.stat().st_mode & 0o077 == 0  # it has passwords
    checked = subprocess.run(
        [program("amtool"), "check-config", str(file)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    found = yaml.safe_load(file.read_text(encoding="utf-8"))
    (receiver,) = found["receivers"]
    assert found["route"]["receiver"] == receiver["name"]
    return receiver


def test_without_a_receiver_it_runs_and_says_that_nobody_is_told(tmp_path: Path) -> None:
    (tmp_path / "webhook").touch()
    done = _start(tmp_path, ALERT_EMAIL_TO="")
    assert (done.returncode, done.stdout) == (0, "started\n")
    assert "nobody is told" in done.stderr
    assert _made(tmp_path) == {"name": "operator"}


def test_a_webhook_and_an_address_are_told_and_no_secret_is_printed(tmp_path: Path) -> None:
    (tmp_path / "webhook").write_text(f"{WEBHOOK}\n")
    (tmp_path / "smtp").write_text("pass'word: #1\n")
    mail = {"ALERT_EMAIL_TO": "night@lab.example", "ALERT_EMAIL_FROM": "darkroom@lab.example"}
    server = {"ALERT_SMTP": "mail.lab.example:587", "ALERT_SMTP_USER": "darkroom"}
    done = _start(tmp_path, **mail, **server, ALERT_SMTP_SECRET_FILE=str(tmp_path / "smtp"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "started\n", "")
    receiver = _made(tmp_path)
    assert receiver["webhook_configs"] == [{"send_resolved": True, "url": WEBHOOK}]
    (email,) = receiver["email_configs"]
    assert (email["to"], email["smarthost"]) == (mail["ALERT_EMAIL_TO"], server["ALERT_SMTP"])
    assert (email["auth_username"], email["auth_password"]) == ("darkroom", "pass'word: #1")


@pytest.mark.parametrize("missing", ["ALERT_EMAIL_FROM", "ALERT_SMTP"])
def test_an_incomplete_receiver_does_not_start(tmp_path: Path, missing: str) -> None:
    given = {"ALERT_EMAIL_TO": "a@b.example", "ALERT_EMAIL_FROM": "c@d.example", "ALERT_SMTP": "host:25"}
    done = _start(tmp_path, **(given | {missing: ""}))
    assert done.returncode != 0
    assert missing in done.stderr
    assert "started" not in done.stdout


def test_prometheus_sends_alerts_to_the_service_of_compose() -> None:
    configuration = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    (managers,) = configuration["alerting"]["alertmanagers"]
    (found,) = managers["dns_sd_configs"]
    assert found == {"names": ["alertmanager"], "type": "A", "port": 9093}
    assert set(services()["prometheus"]["networks"]) & set(services()["alertmanager"]["networks"])
    assert "./deploy/alertmanager:/etc/darkroom:ro" in services()["alertmanager"]["volumes"]
