"""Laws of the cores' shares: processes of one machine, or of one training, start no more than there are cores."""

import os
import sys

import pytest

from darkroom.model.machine import cores
from darkroom.model.machine.cores import share_of_cores
from darkroom.worker import entry


@pytest.fixture(autouse=True)
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    for name in (cores.OPENMP, cores.INDUCTOR):
        monkeypatch.setenv(name, "1")  # so that it is put back, also where nothing was set
        monkeypatch.delenv(name)


def test_each_process_gets_its_share_unless_the_operator_has_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert share_of_cores(16) == {cores.OPENMP: "4", cores.INDUCTOR: "4"}
    assert share_of_cores(100) == {cores.OPENMP: "1", cores.INDUCTOR: "1"}
    monkeypatch.setenv(cores.OPENMP, "7")
    assert share_of_cores(16) == {cores.INDUCTOR: "4"}


def test_the_processes_of_a_job_on_several_devices_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    seen: list[tuple[str | None, ...]] = []

    def become(program: str, arguments: list[str]) -> None:
        assert arguments[:4] == [sys.executable, "-P", "-m", "torch.distributed.run"]
        seen.append(tuple(os.environ.get(name) for name in (cores.OPENMP, cores.INDUCTOR)))
        raise SystemExit

    monkeypatch.setattr(entry, "die_with", lambda parent: None)
    monkeypatch.setattr(os, "execv", become)
    with pytest.raises(SystemExit):
        entry.main(["1", "2", "3", "folder", "8"])
    assert seen == [("8", "8")]
