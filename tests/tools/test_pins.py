"""Laws of `make pins`: the lists have the versions of constraints.txt with hashes; tags get digests, all or none."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.compose import ROOT
from tools.pins import EXTRAS, lock, named_in, pin_images, registry_digest

LISTS = ("requirements.lock", "requirements-cuda.lock")
ONE, OTHER = (f"sha256:{digit * 64}" for digit in "ab")


def _packages(text: str) -> dict[str, tuple[str, list[str]]]:
    """Return version and hashes of each package of a list."""
    entries = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:]
    heads = [re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==(\S+)", entry) for entry in entries]
    return {
        name: (version, re.findall(r"--hash=(\S+)", entry))
        for ((name, version),), entry in zip(heads, entries, strict=True)
    }


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_package_of_the_image_has_hashes_and_the_version_that_set_up_installs() -> None:
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    known = {_plain(name): version for name, version in pinned.items()}
    everywhere, cuda = (_packages((ROOT / name).read_text()) for name in LISTS)
    for _, hashes in (*everywhere.values(), *cuda.values()):
        assert hashes
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", one) for one in hashes)
    assert {name: version for name, (version, _) in everywhere.items() if name in known} == {
        name: version for name, version in known.items() if name in everywhere
    }
    assert everywhere.keys() - known.keys() <= {"setuptools"}
    assert {"torch", "fastapi", "celery", "psycopg-binary", "nvidia-ml-py", "opentelemetry-sdk"} <= everywhere.keys()
    assert not cuda.keys() & known.keys()


def _copy(folder: Path) -> Path:
    for path in named_in(ROOT):
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return folder


def _texts(root: Path) -> dict[Path, str]:
    return {path.relative_to(root): path.read_text() for path in named_in(root)}


def test_every_image_gets_its_digest_and_a_second_run_renews_it(tmp_path: Path) -> None:
    root = _copy(tmp_path)
    asked = pin_images(root, lambda image: ONE)
    first = _texts(root)
    assert {image.partition(":")[0] for image in asked} == {
        *(
            "postgres",
            "redis",
            "prom/prometheus",
            "prom/alertmanager",
            "grafana/grafana",
            "caddy",
            "python",
            "docker/dockerfile",
        )
    }
    for image in asked:
        assert any(f"{image}@{ONE}" in text for text in first.values())
    assert (
        sum(text.count(ONE) for text in first.values()) == 12
    )  # PostgreSQL and Redis are in the manifests, too, and the back-up
    assert not re.search("darkroom[^ ]*@sha256", "".join(first.values()))
    assert pin_images(root, lambda image: OTHER) == asked  # by their tags
    assert _texts(root) == {path: text.replace(ONE, OTHER) for path, text in first.items()}


def test_without_an_answer_no_file_changes(tmp_path: Path) -> None:
    root = _copy(tmp_path)
    before = _texts(root)

    def away(image: str) -> str:
        if image.startswith("redis"):
            raise LookupError(image)
        return ONE

    with pytest.raises(LookupError):
        pin_images(root, away)
    assert _texts(root) == before


def test_a_registry_is_asked_by_what_is_installed_and_only_a_digest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"docker", "skopeo"}
    monkeypatch.setattr(shutil, "which", lambda program: program if program in installed else None)
    told: list[Sequence[str]] = []

    def answering(**answers: str) -> str:
        def run(command: Sequence[str]) -> str:
            told.append(command)
            if command[0] not in answers:
                raise subprocess.CalledProcessError(1, command)
            return answers[command[0]]

        return registry_digest("redis:8", run)

    assert answering(docker=f"{ONE}\n") == ONE
    assert answering(skopeo=OTHER) == OTHER  # docker has no answer
    assert ["redis:8" in " ".join(command) for command in told] == [True] * 3
    for answers in ({"docker": "sha256:abc"}, {"docker": f"{ONE}; x"}):
        with pytest.raises(LookupError, match="which is no digest"):
            answering(**answers)
    with pytest.raises(LookupError, match="install one"):
        answering()
    installed.clear()
    with pytest.raises(LookupError, match="install one"):
        answering(docker=ONE)


def test_the_lists_are_made_for_the_image_s_python_and_cuda_s_packages_go_into_their_own(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile.gpu").write_text("ARG BASE=python:3.11.14-slim-bookworm\n")
    packages = {
        name: f"{name}==1.0 \\\n    --hash={ONE}\n" for name in ("a", "nvidia-ml-py", "nvidia-nccl-cu13", "triton")
    }
    told: list[Sequence[str]] = []

    def run(command: Sequence[str]) -> str:
        told.append(command)
        return "".join(packages.values())

    lock(tmp_path, run)
    (command,) = told
    assert command[command.index("--python-version") + 1] == "3.11.14"
    assert "--generate-hashes" in command
    assert [command[place + 1] for place, part in enumerate(command) if part == "--extra"] == list(EXTRAS)
    plain, cuda = (_packages((tmp_path / name).read_text()) for name in LISTS)
    assert (list(plain), list(cuda)) == (["a", "nvidia-ml-py"], ["nvidia-nccl-cu13", "triton"])
    assert plain["a"] == ("1.0", [ONE])


def test_the_image_installs_nothing_without_hashes_but_the_cpu_s_torch() -> None:
    text = (ROOT / "Dockerfile.gpu").read_text().replace("\\\n", " ")
    installing = re.findall(r"\$pip ([^;&\n]+)", text)
    assert len(installing) == 3
    bare = [words for words in installing if "--require-hashes" not in words]
    assert [words.split()[-1] for words in bare] == ["torch"]
    assert {words.split()[-1] for words in installing if words not in bare} == set(LISTS)
