"""Fills and renews what the deployment pins: `make pins`, after a change of constraints.txt or of an image's tag.

* requirements.lock and requirements-cuda.lock: what Dockerfile.gpu installs, with the hashes of PyPI's files. `uv`
  makes them from pyproject.toml and constraints.txt.
* The digest of every image that docker-compose.yml, Dockerfile.gpu and the manifests name by a tag. `docker` or
  `skopeo` asks the image's registry. Without either of them, or without an answer, the references stay as they are.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = ("digits", "metrics", "nvidia", "tracing")
"""The extras that the image has."""

_CUDA = re.compile(r"nvidia-(?!ml-py)|cuda-|triton==")
"""The packages that the CPU build of PyTorch does not need."""

_IMAGE = re.compile(
    r"(?P<before>\bimage: |\bFROM |^ARG BASE=|^# syntax=)(?P<image>(?!darkroom)[\w./-]+:[\w.-]+)"
    r"(?:@sha256:[0-9a-f]{64})?",
    re.MULTILINE,
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

_HEAD = "# Written by `make pins` from pyproject.toml and constraints.txt.\n"

Run = Callable[[Sequence[str]], str]
"""Runs a command and returns its output. Raises subprocess.CalledProcessError."""


def run(command: Sequence[str]) -> str:
    """Run a command in the repository and return what it prints."""
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def lock(root: Path, run: Run = run) -> None:
    """Write both lists of packages with hashes."""
    (python,) = re.findall(r"^ARG BASE=\S*python:(\d+\.\d+\.\d+)", (root / "Dockerfile.gpu").read_text(), re.MULTILINE)
    extras = [part for name in EXTRAS for part in ("--extra", name)]
    where = ["--python-version", python, "--python-platform", "linux"]
    plain = ["--generate-hashes", "--no-annotate", "--no-header", "--no-config", "--quiet"]
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "compile"]
    made = run([*uv, "pyproject.toml", *extras, "--constraint", "constraints.txt", *where, *plain])
    parts: dict[bool, list[str]] = {False: [], True: []}
    for package in re.split(r"^(?=\S)", made, flags=re.MULTILINE):
        parts[_CUDA.match(package) is not None].append(package)
    for cuda, name in ((False, "requirements.lock"), (True, "requirements-cuda.lock")):
        (root / name).write_text(_HEAD + "".join(parts[cuda]), encoding="utf-8")


def named_in(root: Path) -> Iterator[Path]:
    """Yield the files that name images."""
    yield root / "docker-compose.yml"
    yield root / "Dockerfile.gpu"
    yield from sorted((root / "deploy" / "kubernetes").rglob("*.yaml"))


def pin_images(root: Path, digest_of: Callable[[str], str]) -> list[str]:
    """Put each image's present digest behind its tag. Returns the images, each once.

    digest_of: returns the digest that a registry has for NAME:TAG.
    """
    digests: dict[str, str] = {}

    def pinned(match: re.Match[str]) -> str:
        image = match["image"]
        if image not in digests:
            digests[image] = digest_of(image)
        return f"{match['before']}{image}@{digests[image]}"

    texts = {path: _IMAGE.sub(pinned, path.read_text(encoding="utf-8")) for path in named_in(root)}
    for path, text in texts.items():  # all or none
        path.write_text(text, encoding="utf-8")
    return list(digests)


def registry_digest(image: str, run: Run = run) -> str:
    """Ask the image's registry for the digest of NAME:TAG. Raises LookupError."""
    commands = {
        "docker": ["docker", "buildx", "imagetools", "inspect", image, "--format", "{{.Manifest.Digest}}"],
        "skopeo": ["skopeo", "inspect", "--no-tags", "--format", "{{.Digest}}", f"docker://{image}"],
    }
    for program in filter(shutil.which, commands):
        with suppress(subprocess.CalledProcessError):
            answer = run(commands[program]).strip()
            if _DIGEST.fullmatch(answer) is None:
                raise LookupError(f"{program} answered {answer[:100]!r} for {image}, which is no digest")
            return answer
    raise LookupError(f"neither docker with buildx nor skopeo found the digest of {image}: install one, and try again")


def main() -> None:
    """Renew the hashes, then the digests."""
    lock(ROOT)
    print("requirements.lock and requirements-cuda.lock are up to date")
    try:
        images = pin_images(ROOT, registry_digest)
    except LookupError as error:
        sys.exit(f"no image was changed: {error}")
    print(f"pinned by digest: {', '.join(images)}")


if __name__ == "__main__":
    main()
