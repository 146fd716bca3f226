"""A real Prometheus with the shipped rules, which scrapes processes on this machine."""

import math
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from darkroom.app.embedded.process import ChildProcess
from tests.processes import free_port, wait_until
from tests.programs import program

SHIPPED = Path(__file__).parents[2] / "deploy" / "prometheus"
SCRAPE_SECONDS = 1


class Prometheus:
    """A running server at `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def alerts(self) -> dict[str, str]:
        """Return the health of each alert rule: "ok" after its first evaluation."""
        groups = self._get("rules")["groups"]
        return {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}

    def targets(self) -> Counter[tuple[str, str]]:
        """Return how many targets each scraped job has by health: "up" after the first answer."""
        return Counter((target["labels"]["job"], target["health"]) for target in self._get("targets")["activeTargets"])

    def has_numbers(self, expression: str) -> bool:
        """Return true when a query now gives at least one number other than NaN."""
        result = self._get("query", query=expression)["result"]
        return any(math.isfinite(float(series["value"][1])) for series in result)

    def _get(self, call: str, **parameters: str) -> Any:
        answer = httpx.get(f"{self.url}/api/v1/{call}", params=parameters, trust_env=False)
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.json()["data"]

    def is_ready(self) -> bool:
        """Return true when the server answers queries."""
        try:
            return httpx.get(f"{self.url}/-/ready", trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, Sequence[str]]) -> Iterator[Prometheus]:
    """Run Prometheus with the shipped configuration, but with other addresses, a short interval and no API key.

    targets: the addresses (host:port) of each scraped job.
    """
    folder.mkdir()
    configuration = yaml.safe_load((SHIPPED / "prometheus.yml").read_text(encoding="utf-8"))
    configuration["global"] = dict.fromkeys(configuration["global"], f"{SCRAPE_SECONDS}s")
    del configuration["alerting"]
    configuration["rule_files"] = [str(SHIPPED / file) for file in configuration["rule_files"]]
    for job in configuration["scrape_configs"]:
        del job["dns_sd_configs"]
        job.pop("authorization", None)
        job["static_configs"] = [{"targets": list(targets[job["job_name"]])}]
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    process = ChildProcess(
        "prometheus",
        [
            *(program("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"),
            f"--web.listen-address={address}",
        ],
        log=folder / "prometheus.log",
        parent_death_signal=signal.SIGKILL,
    )
    try:
        server = Prometheus(f"http://{address}")
        wait_until(lambda: server.is_ready() or process.exit_code() is not None, "Prometheus is ready")
        assert process.exit_code() is None, process.log_tail()
        yield server
    finally:
        process.kill()
