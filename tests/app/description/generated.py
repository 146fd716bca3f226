"""Sends requests that schemathesis makes from the OpenAPI document, and checks that every answer keeps the contract."""

import contextlib
import re
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed
from hypothesis import settings as hypothesis_settings
from hypothesis.errors import FlakyStrategyDefinition, NonInteractiveExampleWarning, Unsatisfiable
from hypothesis.stateful import run_state_machine_as_test
from schemathesis import Case, GenerationMode
from schemathesis.checks import load_all_checks
from schemathesis.core.transport import Response
from schemathesis.generation.stateful import APIStateMachine
from schemathesis.specs.openapi import checks
from sqlalchemy import select

from darkroom.store.database import Database
from darkroom.store.job_repository import JobConflict, JobNotFound, request_cancel
from darkroom.store.tables import Job

Json = dict[str, Any]

REFUSED_FOR_NOW = (503, 504, 507)
"""The statuses of 500 and above that a sound service may answer."""

OF_HTTP = (414, 431)
"""Any call may get these, if its address or its headers are too long. They are not documented for each."""

RELAXED = hypothesis_settings(
    deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
"""Answers depend on what earlier requests have left, so that a failure cannot be replayed and made smaller."""

ANSWERED_SECONDS = 60.0

CHECKS: list[Any] = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


class Contract:
    """A service, and how many cases were sent to it.

    key: a token with all rights and its number. No case changes or revokes it, or all further cases would be refused.
    """

    def __init__(self, url: str, key: tuple[int, str], document: Json) -> None:
        load_all_checks()
        self.schema = schemathesis.openapi.from_dict(document)
        self.url = url
        self.counts: Counter[str] = Counter()
        self._own = key[0]
        self._session = requests.Session()
        self._session.trust_env = False
        self.headers = {"Authorization": f"Bearer {key[1]}"}

    def spares_own_key(self, path: str, parameters: Mapping[str, Any] | None) -> bool:
        """True for a case that leaves the key alone."""
        digits = re.sub(r"\D", "", str((parameters or {}).get("key_id", "")))
        return not path.startswith("/v1/keys/") or digits.lstrip("0") != str(self._own)

    def send(self, case: Case) -> Response:
        """Send a case and check its answer."""
        answer = case.call(self.url, session=self._session, headers=self.headers, timeout=ANSWERED_SECONDS)
        self.check(case, answer)
        return answer

    def check(self, case: Case, answer: Response) -> None:
        """Check an answer; raises AssertionError, or a failure of schemathesis."""
        self.counts["cases"] += 1
        self.counts[f"{answer.status_code // 100}xx"] += 1
        assert answer.status_code < 500 or answer.status_code in REFUSED_FOR_NOW, (case.as_curl_command(), answer.text)
        if answer.status_code not in OF_HTTP:
            case.validate_response(answer, checks=CHECKS, headers=self.headers)

    def each_operation(self, examples: int, mode: GenerationMode, number: int = 0) -> None:
        """Send `examples` cases to every operation. number: seeds them."""
        relaxed = hypothesis_settings(RELAXED, max_examples=examples)
        for found in self.schema.get_all_operations():
            operation = found.ok()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NonInteractiveExampleWarning)
                cases = operation.as_strategy(generation_mode=mode)

            @seed(number)
            @relaxed
            @given(cases)
            def send(case: Case) -> None:
                if self.spares_own_key(case.path, case.path_parameters):
                    self.send(case)

            with contextlib.suppress(Unsatisfiable):  # an operation without input has no faulty one
                send()

    def follow_links(self, runs: int, steps: int, number: int = 0) -> None:
        """Make things and go on with them, by the links of the document. number: seeds it."""
        contract = self

        class Machine(self.schema.as_state_machine()):  # type: ignore[misc]
            def get_call_kwargs(self, case: Case) -> Json:
                return {"headers": contract.headers, "timeout": ANSWERED_SECONDS, "session": contract._session}

            def call(self, case: Case, **more: Any) -> Response:
                return case.call(contract.url, **more)

            def validate_response(self, response: Response, case: Case, **_: Any) -> None:
                contract.check(case, response)

        relaxed = hypothesis_settings(RELAXED, max_examples=2, stateful_step_count=steps)
        for run in range(runs):
            machine: type[APIStateMachine] = seed(number * runs + run)(Machine)
            # The first of two examples is always the simplest one. The second may begin like it and then get other
            # answers, because the service has changed meanwhile: Hypothesis takes that for a fault of the strategy.
            with contextlib.suppress(FlakyStrategyDefinition):
                run_state_machine_as_test(machine, settings=relaxed)


@contextlib.contextmanager
def cancelling(database: Database) -> Iterator[None]:
    """Cancel every job soon after it is queued, as no worker carries it out: the stream of its events then ends."""
    ended = threading.Event()

    def cancel_all() -> None:
        while not ended.wait(0.2):
            with database.session() as session:
                unfinished = session.scalars(select(Job.id).where(Job.status == "queued").order_by(Job.id)).all()
            for job_id in unfinished:
                with contextlib.suppress(JobConflict, JobNotFound), database.session() as session:
                    request_cancel(session, job_id)

    thread = threading.Thread(target=cancel_all, name="cancelling")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
