"""The memory of this process's control group, a container's say. It needs no torch, which no supervisor imports."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class GroupMemory:
    """Bytes. used: without the page cache, which the kernel can take back."""

    limit: int
    used: int


def group_memory() -> GroupMemory | None:
    """Return the group's memory; None without a limit, or on a system without cgroups of version 2."""
    with suppress(OSError, ValueError, IndexError, KeyError):
        group = CGROUPS / (PROC / "self" / "cgroup").read_text().splitlines()[-1].partition("::")[2].strip("/")
        limit, current = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        stat = numbers(group / "memory.stat")
        return GroupMemory(limit, current - stat["active_file"] - stat["inactive_file"])
    return None


def numbers(file: Path) -> dict[str, int]:
    """Read lines of a name and a number."""
    return {name: int(value) for name, value, *_ in map(str.split, file.read_text().splitlines())}
