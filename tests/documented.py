"""Runs commands of docs/deploy.md in a shell whose programs are stand-ins, so that a test sees what they would do."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.compose import ROOT


def documented(section: str) -> list[str]:
    """Return the blocks of commands of a section of the page, each as a script."""
    page = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    text = re.split(r"^##", page.partition(f"### {section}\n")[2], flags=re.MULTILINE)[0]
    blocks = re.findall(r"^ *```console\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [re.sub(r"^ *\$ ", "", block, flags=re.MULTILINE) for block in blocks]


def calls(script: str, folder: Path, programs: Mapping[str, str]) -> list[list[str]]:
    """Run a script in `folder`, and return the calls of `programs`: stand-ins that run these shell commands instead."""
    for name, does in programs.items():
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$*" >> {folder}/calls\n{does}\n')
        (folder / name).chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-euc", script], cwd=folder, env=environment, check=True)
    return [line.split() for line in (folder / "calls").read_text().splitlines()]
