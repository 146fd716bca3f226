"""`up` as a process of its own, with the stand-in API: python run_up.py STATE PORT."""

import sys
from pathlib import Path

from app.embedded.up import up

STAND_IN = str(Path(__file__).with_name("stand_in_api.py"))

if __name__ == "__main__":
    sys.exit(
        up(
            Path(sys.argv[1]),
            "127.0.0.1",
            int(sys.argv[2]),
            command=lambda host, port: [sys.executable, STAND_IN, host, str(port)],
            drain_seconds=20.0,
        )
    )
