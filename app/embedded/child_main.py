"""First moments of a child process: tie its life to the parent's, become the account, then be the command.

Run as a file (`python -I -S child_main.py PARENT SIGNAL UID:GID COMMAND...`; `-` for no account), with the standard
library alone. A program of its own and not a `preexec_fn`, because only calls that are safe between fork and exec may
be made there when the parent has threads.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    parent, death_signal, account, *command = arguments
    if account != "-":
        uid, gid = map(int, account.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":  # after the change of account, which would clear it
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != int(parent):  # it died before the call above
            return 1
    try:
        os.execvp(command[0], command)
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
