"""Laws of the job protocol in PostgreSQL: the repository does what the model does, and both notice the same faults."""

from collections.abc import Callable, Iterator, Sequence

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

from darkroom.store import job_repository, promotion
from darkroom.store.job_repository import Failure, Lease, LeaseLost, add_event, lock_job
from darkroom.store.tables import Job
from tests.protocol.driver import Divergence, Driver
from tests.protocol.model import THE_PROTOCOL, WRITES, Edges, Rules, State, Step, steps
from tests.protocol.traces import Trace, all_pairs, database_steps, label

Taken = Sequence[tuple[str, str]]
"""Actors and actions."""


@pytest.fixture
def driver(database_url: str) -> Iterator[Driver]:
    driver = Driver(database_url)
    yield driver
    driver.close()


def followed(taken: Taken, rules: Rules = THE_PROTOCOL) -> Trace:
    """Return the trace of these steps in the model, up to the first that it does not know."""
    state, trace = State(), list[tuple[Step, State]]()
    for one in taken:
        for step, after in steps(state, rules):
            if step == one:
                state = after._replace(unsent=False)
                trace.append((step, state))
                break
        else:
            break
    return trace


PARTS = 4
"""The first test in this many parts, because each part has a limit of time."""


@pytest.fixture(scope="module")
def pairs() -> Sequence[Trace]:
    """Return traces that take every transition, and every one after every other one that it can follow."""
    return list(all_pairs(seed=0))


@pytest.mark.parametrize("part", range(PARTS))
def test_the_repository_does_what_the_model_does(driver: Driver, pairs: Sequence[Trace], part: int) -> None:
    for trace in pairs[part::PARTS]:
        assert driver.follow(trace) == []


def test_the_traces_take_every_transition_that_the_database_sees(pairs: Sequence[Trace], edges: Edges) -> None:
    taken = {
        label(before, step, after)
        for trace in pairs
        for before, (step, after) in zip([State(), *(after for _, after in trace)], trace, strict=False)
    }
    known = {
        label(before, step, after) for before in edges if not before.unsent for step, after in database_steps(before)
    }
    assert taken == known
    assert {action for _, action, _ in known} >= {*WRITES, "cancel", "promote", "lapse", "die", "commit unheard"}


CLAIMED = [("api", "submit"), ("first", "look"), ("first", "commit")]
RESCUED = [("time", "lapse"), ("reconciler", "look"), ("reconciler", "commit"), ("time", "due")]


def overwriting_rescuer(session: Session, limit: int = 100) -> Sequence[Job]:
    """Do as `requeue_lapsed`, but lock the records after the look, and do not look again."""
    jobs = session.scalars(select(Job).where(Job.lease_expires_at <= func.clock_timestamp()).limit(limit)).all()

    def rescue(session: Session) -> None:
        for job in jobs:
            lock_job(session, job.id).finished_at = None  # otherwise a constraint of the table refuses it
            add_event(session, job, "lease_lapsed", {"attempt": job.attempt, "worker": job.worker})
            job_repository._after_bad_end(session, job, Failure("worker_lost", "it was lost"), job.attempt)

    event.listen(session, "before_commit", rescue, once=True)
    return jobs


def hold_without_fence(session: Session, lease: Lease) -> Job:
    """Do as `hold`, but ask only that the job runs: an attempt ends by time alone."""
    active = Job.status.in_(("running", "cancelling"))
    job = session.scalars(select(Job).where(Job.id == lease.job_id, active).with_for_update()).one_or_none()
    if job is None:
        raise LeaseLost
    return job


OVERWRITTEN = [
    *CLAIMED,
    *(("first", "fail"), ("time", "lapse"), ("reconciler", "look")),
    *(("first", "commit"), ("reconciler", "commit")),
]
UNFENCED = [
    *(*CLAIMED, *RESCUED),
    *(("second", "look"), ("second", "commit"), ("first", "fail"), ("first", "commit")),
]


def break_rescue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_repository, "requeue_lapsed", overwriting_rescuer)


def break_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (job_repository, promotion):
        monkeypatch.setattr(module, "hold", hold_without_fence)


Break = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize(("fault", "taken"), [(break_rescue, OVERWRITTEN), (break_fence, UNFENCED)])
def test_a_fault_in_the_repository_differs_from_the_model(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, fault: Break, taken: Taken
) -> None:
    trace = followed(taken)
    assert driver.follow(trace) == []
    fault(monkeypatch)
    with pytest.raises(Divergence, match="has an open transaction, unlike the model's"):
        driver.follow(trace)


@pytest.mark.parametrize(
    ("fault", "without", "taken", "told"),
    [
        (
            break_rescue,
            Rules(rescue_locks=False),
            OVERWRITTEN,
            [
                "event 4: lease_lapsed was written while no worker held the job (failed)",
                "event 5: the job went on to queued after its end (failed)",
            ],
        ),
        (break_fence, Rules(fenced=False), UNFENCED, ["event 6: failed of attempt 1 instead of 2"]),
    ],
)
def test_the_history_shows_a_fault_that_model_and_repository_share(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, fault: Break, without: Rules, taken: Taken, told: Sequence[str]
) -> None:
    fault(monkeypatch)
    trace = followed(taken, without)
    assert [step for step, _ in trace] == taken
    found = driver.follow(trace)
    assert [one.partition(", ")[2] for one in found] == told
