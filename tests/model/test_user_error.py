"""Laws of errors: one that the user can correct is a line and exit code 2; a fault of the program is a traceback."""

import errno
import subprocess
import sys

import pytest


def _ended(raising: str) -> subprocess.CompletedProcess[str]:
    program = f"""
import errno
from darkroom.model.user_error import UserError, ending_in_one_line
class Other(Exception): pass
with ending_in_one_line(Other):
    {raising}
print("went on")
"""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("raising", "line"),
    [
        ("raise UserError('port 1 is in use; choose another')", "port 1 is in use; choose another"),
        ("raise Other('no traces')", "no traces"),
        (r"'b\udcff'.encode()", r"'b\\udcff' is not valid UTF-8"),
        ("open('/nonexistent/file')", "/nonexistent/file: No such file or directory"),
        ("open('/proc/self/mem', 'x')", "/proc/self/mem: File exists"),
        (
            f"raise OSError({errno.ENOSPC}, 'No space left on device')",
            "No space left on device; free some space and run the same command again",
        ),
        (
            f"raise PermissionError({errno.EACCES}, 'Permission denied', '/a')",
            "/a: Permission denied; choose another place, or give this user access",
        ),
    ],
)
def test_an_error_that_the_user_can_correct_is_one_line(raising: str, line: str) -> None:
    ended = _ended(raising)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"error: {line}\n")


@pytest.mark.parametrize(
    "raising", ["{}['x']", "'ö'.encode('ascii')", "raise ConnectionResetError(104, 'reset')", "raise OSError('odd')"]
)
def test_a_fault_of_the_program_keeps_its_traceback(raising: str) -> None:
    ended = _ended(raising)
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr


def test_without_an_error_nothing_happens() -> None:
    assert _ended("pass").stdout == "went on\n"
    assert _ended("raise SystemExit(5)").returncode == 5
