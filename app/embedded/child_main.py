"""Starts a child process: switches to the account, ties the child's life to the parent's, then executes the command.

No other account can read what the child writes.

Run as a file (`python -I -S child_main.py PARENT SIGNAL UID:GID COMMAND...`; `-` for no account), with the standard
library only. This is not a `preexec_fn`, because a parent with threads may make only few calls between fork and exec.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    parent, death_signal, account, *command = arguments
    os.umask(0o077)
    if account != "-":
        uid, gid = map(int, account.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":  # a change of account clears the signal, so this comes after it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != int(parent):  # the parent died before the call above
            return 1
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
