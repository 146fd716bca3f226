"""Chooses the account for PostgreSQL, which refuses to run as root."""

import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

CANDIDATES = ("postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged account.

    setpriv: path of the program that gives the account the capability to bypass permission checks; None if the account
    does not need it.
    """

    name: str
    uid: int
    gid: int
    setpriv: str | None = None

    @property
    def capable(self) -> bool:
        """True if the server must be started through `switch`."""
        return self.setpriv is not None

    def switch(self, parent_death_signal: int) -> tuple[str, ...]:
        """Return the beginning of a command line that switches to this account and gives it the capability."""
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
        if folder.lstat().st_uid == self.uid:  # then everything in a data folder has this owner
            return
        for parent, _, files in os.walk(folder):
            os.chown(parent, self.uid, self.gid)
            for file in files:
                os.chown(Path(parent, file), self.uid, self.gid, follow_symlinks=False)


def service_account(*folders: Path) -> Account | None:
    """Return the account for a server that must enter `folders`; None when this process is not root.

    If a parent folder is closed to other accounts (`/root`), the server gets the capability to bypass permission
    checks. That is safer than opening a home folder to everybody. Raises LookupError when no account will do.
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
        names = " or ".join(CANDIDATES)
        raise LookupError(f"PostgreSQL cannot run as root, and there is no account {names}: create one of them")
    closed = next((f for folder in folders for f in folder.resolve().parents if not f.stat().st_mode & 0o001), None)
    if closed is None:
        return Account(name, entry.pw_uid, entry.pw_gid)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise LookupError(
            f"PostgreSQL runs as {name}, which cannot enter {closed}: move the folder or run `chmod o+x {closed}`"
        )
    return Account(name, entry.pw_uid, entry.pw_gid, setpriv)
