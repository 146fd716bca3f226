"""Runs `up` as a process, with stand-ins for the API and the workers: python run_up.py STATE PORT [HOST [DEVICES]]."""

import os
import sys
from pathlib import Path

from darkroom.app.embedded.up import Timeouts, up
from darkroom.model.user_error import ending_in_one_line

API = str(Path(__file__).with_name("stand_in_api.py"))
WORKER = str(Path(__file__).with_name("stand_in_worker.py"))

if __name__ == "__main__":
    with ending_in_one_line():
        code = up(
            Path(sys.argv[1]),
            sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1",
            int(sys.argv[2]),
            sys.argv[4] if len(sys.argv) > 4 else None,
            api=lambda host, port: [sys.executable, API, host, str(port)],
            workers=lambda: {name: [sys.executable, WORKER, name] for name in ("worker", "reconciler")},
            timeouts=Timeouts(
                drain_seconds=20.0,
                hand_back_seconds=float(os.environ.get("HAND_BACK_LIMIT_SECONDS", "20")),
                restart_seconds=1.0,
            ),
        )
    sys.exit(code)
