"""Law of the answers 429: one module makes all of them."""

from pathlib import Path

import darkroom.app

APP = Path(darkroom.app.__path__[0])


def test_one_module_makes_every_answer_429() -> None:
    makers = {
        path.relative_to(APP).as_posix()
        for path in APP.rglob("*.py")
        if "Problem(429" in (text := path.read_text()) or "TOO_MANY_REQUESTS" in text
    }
    assert makers == {"access/too_many_requests.py"}
