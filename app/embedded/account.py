"""The account that PostgreSQL runs under: it refuses to run as root."""

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged account. setpriv: the program that gives it the capability to pass permission checks, if it needs
    that, else None."""

    name: str
    uid: int
    gid: int
    setpriv: str | None = None

    @property
    def capable(self) -> bool:
        """Whether the server must be started through `switch`."""
        return self.setpriv is not None

    def switch(self, parent_death_signal: int) -> tuple[str, ...]:
        """The beginning of a command line that becomes this account with the capability."""
        return (
            str(self.setpriv),
            f"--reuid={self.uid}",
            f"--regid={self.gid}",
            "--clear-groups",
            "--inh-caps=+dac_override",
            "--ambient-caps=+dac_override",
            f"--pdeathsig={Signals(parent_death_signal).name.removeprefix('SIG')}",
        )

    def own(self, folder: Path) -> None:
        """Make the account the owner of `folder` and of everything in it."""
        if folder.lstat().st_uid == self.uid:  # a data folder has one owner throughout
            return
        for parent, _, files in os.walk(folder):
            os.chown(parent, self.uid, self.gid)
            for file in files:
                os.chown(Path(parent, file), self.uid, self.gid, follow_symlinks=False)


def service_account(*folders: Path) -> Account | None:
    """The account for a server that must enter `folders`; None when this process is not root and stays itself.

    A folder below one that others cannot enter (`/root`) is opened for the server alone, by the capability to pass
    permission checks, instead of widening the permissions of somebody's home. Raises LookupError when that cannot be.
    """
    if os.geteuid() != 0:
        return None
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        break
    else:
        raise LookupError(f"PostgreSQL cannot run as root and there is none of the accounts {', '.join(CANDIDATES)}")
    closed = next((f for folder in folders for f in folder.resolve().parents if not f.stat().st_mode & 0o001), None)
    if closed is None:
        return Account(name, entry.pw_uid, entry.pw_gid)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise LookupError(
            f"PostgreSQL runs as {name}, who cannot enter {closed}: move the folder or run `chmod o+x {closed}`"
        )
    return Account(name, entry.pw_uid, entry.pw_gid, setpriv)
