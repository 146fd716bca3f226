"""Laws of loading: what is too large is refused before a byte is read, and what ended a process is not tried again."""

import logging
import os
import sys
from pathlib import Path

import pytest
import torch

from darkroom.app.engine.engine import Engine, EngineLimits
from darkroom.app.versions import load_guard
from darkroom.app.versions.catalog import Catalog
from darkroom.app.versions.load_guard import COPIES, LoadGuard, require_memory
from darkroom.app.versions.version import Version
from darkroom.model.checkpoint import CheckpointError, decode_checkpoint
from darkroom.model.config import UNetConfig
from darkroom.model.machine import control_group, memory
from darkroom.store.aliases import set_alias
from darkroom.store.audit_repository import COMMAND_LINE
from darkroom.store.database import Database
from darkroom.store.model_repository import PRODUCTION
from tests.app.served import store_weights, tiny_weights


def version(seed: int = 1, **unet: object) -> Version:
    found = decode_checkpoint(tiny_weights("tiny", seed), source="test")
    model = found.header.model.model_copy(update={"unet": UNetConfig.model_validate(unet)} if unet else {})
    return Version("tiny", found.digest, found.header.model_copy(update={"model": model}))


def dies_while_loading(folder: Path, one: Version) -> None:
    """Load the version in a process that is killed meanwhile."""
    child = os.fork()
    if child == 0:
        with LoadGuard(folder).loading(one):
            os._exit(9)  # as abrupt as SIGKILL: no block ends
    os.waitpid(child, 0)


def test_a_version_that_exceeds_the_free_memory_is_refused_by_its_header_alone() -> None:
    huge = version(width=2048, multipliers=(64,), attention_resolutions=())
    with pytest.raises(CheckpointError, match=r"tiny@sha256:.* bytes of memory, and [0-9,]+ are free"):
        require_memory(huge)
    require_memory(version())


def test_what_a_load_may_take_is_what_is_free_to_the_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    one = version()
    needed = COPIES * 4 * one.header.parameters
    monkeypatch.setattr(load_guard, "available_bytes", lambda: needed)
    require_memory(one)
    monkeypatch.setattr(load_guard, "available_bytes", lambda: needed - 1)
    with pytest.raises(CheckpointError):
        require_memory(one)
    monkeypatch.setattr(load_guard, "available_bytes", lambda: None)
    require_memory(one)


def test_free_memory_is_the_machine_s_or_the_control_group_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_group, "PROC", tmp_path / "proc")
    monkeypatch.setattr(control_group, "CGROUPS", tmp_path / "cgroup")
    assert memory.available_bytes() is None
    group = tmp_path / "cgroup" / "a" / "b"
    group.mkdir(parents=True)
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 900 kB\nMemAvailable: 500 kB\nHugePages_Total: 0\n")
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/a/b\n")
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("300000\n")
    (group / "memory.stat").write_text("anon 100000\ninactive_file 30000\nactive_file 20000\n")
    assert memory.available_bytes() == 512_000
    (group / "memory.max").write_text("400000\n")
    assert memory.available_bytes() == 150_000
    if sys.platform == "linux":
        monkeypatch.undo()
        assert (memory.available_bytes() or 0) > 0


def test_a_version_whose_load_ended_a_process_is_set_aside_until_it_is_allowed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = version(1), version(2)
    dies_while_loading(tmp_path, one)
    with LoadGuard(tmp_path).loading(other):  # a load that ends, also by an exception, leaves nothing
        pass
    for _ in range(2):  # at the next start and at every one after it
        guard = LoadGuard(tmp_path)
        with caplog.at_level(logging.ERROR):
            guard.look()
        assert guard.set_aside == 1
        with pytest.raises(CheckpointError, match="promote it again"):
            guard.require_allowed(one.digest)
        guard.require_allowed(other.digest)
    assert f"a process ended while it loaded tiny@{one.digest}" in caplog.text
    guard.allow(one.digest)
    guard.require_allowed(one.digest)
    later = LoadGuard(tmp_path)
    later.look()
    assert later.set_aside == 0


def test_a_version_that_another_process_loads_now_is_not_set_aside(tmp_path: Path) -> None:
    with LoadGuard(tmp_path).loading(version()):
        beside = LoadGuard(tmp_path)
        beside.look()
        assert beside.set_aside == 0
    assert list(tmp_path.iterdir()) == []


def test_marks_that_cannot_be_written_or_read_stop_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with LoadGuard(tmp_path / "file").loading(version()):
        pass
    (tmp_path / "cut.json").write_text('{"name":')
    (tmp_path / "other.json").write_text("[]")
    guard = LoadGuard(tmp_path)
    guard.look()
    assert guard.set_aside == 0


async def test_the_catalog_serves_the_rest_and_tries_again_when_somebody_promotes(
    tmp_path: Path, database: Database
) -> None:
    digest = store_weights(database, tiny_weights("tiny", seed=1), "trained")
    store_weights(database, tiny_weights("tiny", seed=2), "trained", "other")
    with database.session() as session:
        for name in ("tiny", "other"):
            set_alias(session, COMMAND_LINE, name, PRODUCTION, 1)
    dies_while_loading(tmp_path, version(1))
    engine = Engine(EngineLimits(batch_rows=2, versions=4))
    engine.start()
    try:
        catalog = Catalog(engine, database, device=torch.device("cpu"), default=None, loading_folder=tmp_path)
        await catalog.open(tmp_path / "no weights")
        assert (catalog.ready, catalog.set_aside) == (True, 1)
        assert catalog.production("other") is not None
        assert catalog.production("tiny") is None
        with pytest.raises(CheckpointError, match="set aside"):
            await catalog.ensure_loaded(await catalog.find("tiny@1"))
        await catalog.promote(COMMAND_LINE, "tiny", "1")
        assert catalog.set_aside == 0
        assert digest in engine.status().resident
    finally:
        engine.stop(0.0)
    assert not list(tmp_path.glob("*.json"))


async def test_a_version_that_is_too_large_is_never_read(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_weights(database, tiny_weights("tiny", seed=1), "trained")
    monkeypatch.setattr(load_guard, "available_bytes", lambda: 1000)
    monkeypatch.setattr("darkroom.app.versions.catalog.read_weights", lambda *_: pytest.fail("the weights were read"))
    engine = Engine(EngineLimits(batch_rows=2, versions=4))
    catalog = Catalog(engine, database, device=torch.device("cpu"), default=None)
    with pytest.raises(CheckpointError, match="and 1,000 are free"):
        await catalog.promote(COMMAND_LINE, "tiny", "1")
