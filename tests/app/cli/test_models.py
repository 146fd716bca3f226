"""Laws of `darkroom models` and `download`: weights go to a service and come back, byte for byte."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from darkroom.model.checkpoint import load_checkpoint
from darkroom.model.digest import digest_of
from tests.app.cli.calls import Run, refused, run_on
from tests.app.served import Service, serving, tiny_weights, weights_folder
from tests.processes import wait_until


@pytest.fixture
def service(tmp_path: Path, database_url: str) -> Iterator[Service]:
    with serving(weights_folder(tmp_path / "weights"), database_url=database_url) as service:
        wait_until(lambda: service.client.get("/v1/models/tiny").status_code == 200, "registered")
        yield service


@pytest.fixture
def run(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    return run_on(service)


def test_a_weights_file_is_added_listed_and_downloaded(run: Run, service: Service, tmp_path: Path) -> None:
    file, data = tmp_path / "mine.safetensors", tiny_weights("mine", 5)
    file.write_bytes(data)
    digest = digest_of(data)
    result = run("models", "add", "tiny", file)
    assert result.exit_code == 0, result.output
    assert result.output == f"{file} is tiny@2, {digest[:19]}\n"
    assert run("models", "add", "new", file).exit_code == 0
    service.client.put("/v1/models/tiny/alias/candidate", json={"version": 2})
    header, new, tiny = run("models", "list").output.splitlines()
    assert header.split() == ["model", "versions", "production", "other", "aliases", "created"]
    assert new.split()[:3] == ["new", "1", "1"]
    assert tiny.split()[:5] == ["tiny", "2", "1", "candidate", "2"]

    Path("got").mkdir()
    for version in ("2", "candidate", digest):
        result = run("download", f"tiny@{version}", "--out", f"got/{version[:9]}.safetensors")
        assert result.exit_code == 0, result.output
        assert Path("got", f"{version[:9]}.safetensors").read_bytes() == data
        assert f"tiny@2, {digest[:19]}" in result.output
    assert run("download", "tiny").exit_code == 0  # production, under a name of its own
    assert load_checkpoint(Path("tiny-1.safetensors")).digest == digest_of(tiny_weights())
    assert run("download", "tiny@2", "--out", "two.safetensors", "--card", "two.json").exit_code == 0
    assert json.loads(Path("two.json").read_text())["digest"] == digest
    assert sorted(path.name for path in Path("got").iterdir()) == sorted(
        f"{version[:9]}.safetensors" for version in ("2", "candidate", digest)
    )


def test_a_download_never_replaces_a_file_that_nobody_named(run: Run) -> None:
    Path("tiny-1.safetensors").write_text("mine")
    refused(run("download", "tiny"), "tiny-1.safetensors", "--out")
    refused(run("download", "tiny", "--out", "mistyped/tiny.safetensors"), "mistyped: there is no such folder")
    assert not Path("mistyped").exists()
    assert Path("tiny-1.safetensors").read_text() == "mine"


def test_a_download_with_wrong_bytes_leaves_the_old_file(
    run: Run, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    iter_raw = httpx.Response.iter_raw

    def turned_round(response: httpx.Response) -> Iterator[bytes]:
        weights = response.headers["content-type"] == "application/octet-stream"
        return (chunk[::-1] if weights else chunk for chunk in iter_raw(response))

    monkeypatch.setattr(httpx.Response, "iter_raw", turned_round)
    Path("old.safetensors").write_text("old")
    refused(run("download", "tiny", "--out", "old.safetensors"), "are not those of sha256:")
    assert Path("old.safetensors").read_text() == "old"
    assert [path.name for path in Path().glob("*.part")] == []


def test_a_version_is_deleted(run: Run, service: Service, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(tiny_weights("mine", 5))
    run("models", "add", "tiny", "mine.safetensors")
    refused(run("models", "delete", "tiny@1", "--force"), "models/tiny/alias/production")
    service.client.put("/v1/models/tiny/alias/candidate", json={"version": 2})
    refused(run("models", "delete", "tiny@2"), "models/tiny/alias/candidate", "force")
    assert run("models", "delete", "tiny@2", "--force").output == "tiny@2 is deleted\n"
    refused(run("download", "tiny@2", "--out", "again.safetensors"), "no longer kept")
    assert not Path("again.safetensors").exists()


def test_a_whole_model_is_deleted_when_no_version_of_it_is_marked(run: Run, service: Service, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(tiny_weights("mine", 5))
    run("models", "add", "mine", "mine.safetensors")
    assert run("models", "keep", "mine@1").output == "mine@1 is marked to be kept\n"
    refused(run("models", "delete", "mine", "--force"), "models/mine/versions/1 is marked")
    _, first, second = run("models", "delete", "mine", "--dry-run").output.splitlines()
    assert " ".join(first.split()) == "models/mine/versions/1 is marked to be kept prevents it"
    assert " ".join(second.split()) == "models/mine/alias/production points at version 1 with --force"
    assert run("models", "keep", "mine@1", "--off").output == "mine@1 is no longer marked\n"
    refused(run("models", "delete", "mine"), "models/mine/alias/production", "force")
    assert run("models", "delete", "mine", "--force").output == "Model mine is deleted\n"
    assert service.client.get("/v1/models/mine").status_code == 404
    assert service.client.post("/generate", json={"class": 0, "model": "mine"}).status_code == 422
    refused(run("models", "delete", "mine"), "no model 'mine'")


def test_a_version_is_put_into_production(run: Run, service: Service, tmp_path: Path) -> None:
    (tmp_path / "mine.safetensors").write_bytes(tiny_weights("mine", 5))
    run("models", "add", "tiny", "mine.safetensors")
    assert run("models", "promote", "tiny@2").output == "tiny@2 is in production\n"
    assert service.client.get("/v1/models/tiny").json()["aliases"]["production"]["version"] == 2
    service.client.put("/v1/models/tiny/alias/former", json={"version": 1})
    assert run("models", "promote", "tiny@former").output == "tiny@1 is in production\n"
    refused(run("models", "promote", "tiny"), "name a version of it")
    refused(run("models", "promote", "tiny@7"), "no version or alias '7'")


def test_what_cannot_be_sent_or_found_is_refused(run: Run, tmp_path: Path) -> None:
    refused(run("models", "add", "tiny", "none.safetensors"), "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no weights")
    refused(run("models", "add", "tiny", "bad.safetensors"), "not a readable safetensors file")
    refused(run("download", "none"), "'none'")
    refused(run("download", "tiny@9"), "tiny@1")
