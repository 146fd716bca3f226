"""Small archives with the layout of the data sets' official ones."""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path


def write_tar(path: Path, members: Mapping[str, bytes]) -> Path:
    """Write a .tar.gz with the members in a folder `top`; returns its path."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            header = tarfile.TarInfo(f"top/{name}")
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
    return path
