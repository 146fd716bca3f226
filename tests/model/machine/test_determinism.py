"""Laws of DARKROOM_DETERMINISTIC: it sets what PyTorch and cuBLAS need before the device computes."""

import os
import subprocess
import sys

import pytest

from darkroom.model.machine.determinism import CUBLAS_VARIABLE
from darkroom.model.machine.device import find_device
from darkroom.model.user_error import UserError

TELL = """
import os, torch
from darkroom.model.machine.determinism import computes_deterministically
from darkroom.model.machine.device import find_device
find_device("cpu", "device")
print(
    computes_deterministically(),
    torch.are_deterministic_algorithms_enabled(),
    torch.backends.cudnn.benchmark,
    os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
)
"""


def told(**environment: str) -> str:
    """Return what a process of this environment says of its settings after it has found its device."""
    without = {name: value for name, value in os.environ.items() if name != CUBLAS_VARIABLE}
    run = subprocess.run(
        [sys.executable, "-c", TELL], env=without | environment, capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


def test_the_setting_reaches_pytorch_and_cublas() -> None:
    assert told(DARKROOM_DETERMINISTIC="true") == "True True False :4096:8"
    assert told(DARKROOM_DETERMINISTIC="1", CUBLAS_WORKSPACE_CONFIG=":16:8") == "True True False :16:8"
    assert told() == told(DARKROOM_DETERMINISTIC="false") == "False False False None"


def test_a_value_that_is_neither_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_DETERMINISTIC", "perhaps")
    with pytest.raises(UserError, match=r"DARKROOM_DETERMINISTIC cannot be used: .*boolean"):
        find_device("cpu", "device")
