"""Checks everything that runs on a GPU: `python -m bench.gpu_check --out DIR --seconds 540`.

Each phase (`bench/gpu_phases.py`) is a process of its own with a deadline, so that a phase that hangs, crashes or loses
the device leaves the others alone. `DIR/gpu_check.json` is written anew after each phase. Time that a phase leaves over
goes to the later ones. The exit code is 1 unless every phase has passed.

`--device cpu --tiny` runs the same code on small networks, without a GPU. See docs/gpu.md.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

SHARES = {
    "facts": 20,
    "images": 60,
    "deterministic": 30,
    "training": 60,
    "engine": 90,
    "training_speed": 90,
    "faults": 30,
    "evaluation": 50,
    "ranks": 40,
    "job": 70,
}
"""Seconds of each phase in a check of 540. They run in this order."""

LAST_LINES = 20
"""Lines of a failed phase's output that the report keeps."""

Result = dict[str, Any]


def check(out: Path, phases: Mapping[str, float], seconds: float, command: Callable[[str], Sequence[str]]) -> Result:
    """Run the phases within `seconds`; returns their results by name, as `out`/gpu_check.json has them.

    phases: their shares of the time. command: of a phase's process, which writes `out`/NAME.json.
    """
    out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    results: Result = {}
    names = list(phases)
    for number, name in enumerate(names):
        left = end - time.monotonic()
        deadline = left * phases[name] / sum(phases[later] for later in names[number:])
        results[name] = _phase(out, name, max(0.0, deadline), command(name))
        print(f"{name}: {results[name]['status']} in {results[name]['seconds']:.0f} s", flush=True)
        part = out / "gpu_check.part"
        part.write_text(json.dumps(results, indent=1) + "\n")
        part.replace(out / "gpu_check.json")
    return results


def _phase(out: Path, name: str, deadline: float, command: Sequence[str]) -> Result:
    """Run one phase. What it had written before its deadline, or before a crash, counts."""
    found = out / f"{name}.json"
    found.unlink(missing_ok=True)
    began = time.monotonic()
    with (out / f"{name}.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            code = process.wait(deadline)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # also what the phase has started and left behind
            process.wait()
    result: Result = {"status": "", "seconds": round(time.monotonic() - began, 1), "deadline": round(deadline, 1)}
    result |= json.loads(found.read_text()) if found.exists() else {"laws": {}, "figures": {}}
    if code is None:
        result["status"] = "late"
    elif code != 0:
        result["status"] = "error"
        result["log"] = (out / f"{name}.log").read_text(errors="replace").splitlines()[-LAST_LINES:]
    else:
        result["status"] = "passed" if all(result["laws"].values()) else "failed"
    return result


def main() -> None:
    """Run the check, or one phase of it (`--phase`)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu_check.json, logs and references")
    parser.add_argument("--seconds", type=float, default=540.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small networks and few steps, for a CPU")
    parser.add_argument("--only", nargs="+", choices=list(SHARES), default=list(SHARES), metavar="PHASE")
    parser.add_argument("--phase", choices=list(SHARES), help="run this phase in this process")
    arguments = parser.parse_args()
    if arguments.phase is not None:
        from bench import gpu_phases

        gpu_phases.run(arguments.phase, arguments.out, arguments.device, tiny=arguments.tiny)
        sys.stdout.flush()
        os._exit(0)  # after a lost device, CUDA may abort an orderly end

    def command(name: str) -> list[str]:
        tiny = ["--tiny"] if arguments.tiny else []
        own = ["--out", str(arguments.out), "--device", arguments.device, "--phase", name, *tiny]
        return [sys.executable, "-m", "bench.gpu_check", *own]

    phases = {name: share for name, share in SHARES.items() if name in arguments.only}
    results = check(arguments.out, phases, arguments.seconds, command)
    sys.exit(any(result["status"] != "passed" for result in results.values()))


if __name__ == "__main__":
    main()
