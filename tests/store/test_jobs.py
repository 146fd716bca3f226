"""Laws of the job protocol: a job has one claim at a time, an old claim writes nothing, and no job is lost."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from darkroom.model.training.curve_point import CurvePoint
from darkroom.store.audit_repository import COMMAND_LINE
from darkroom.store.clock import seconds
from darkroom.store.counters import read_counters
from darkroom.store.database import Database
from darkroom.store.job_repository import (
    Claimant,
    Failure,
    JobConflict,
    JobNotFound,
    Lease,
    LeaseLost,
    Origin,
    cancel_requested,
    claim_job,
    crash,
    events_after,
    fail,
    fail_unservable,
    get_job,
    hold,
    is_due_to_another_key,
    job_waits,
    list_jobs,
    renew,
    request_cancel,
    requeue,
    requeue_lapsed,
    stop,
    submit_job,
    succeed,
)
from darkroom.store.key_repository import KeyLimits, create_key
from darkroom.store.run_repository import append_log, job_curve, record_curve_points
from darkroom.store.tables import Job, Worker
from darkroom.store.worker_repository import count_idle_workers, see_worker
from tests.processes import wait_until

WORKER = Claimant("worker", "cpu")
LEASE_SECONDS = 60.0
BROKEN = Failure("crashed", "it broke")


def submit(database: Database, **fields: Any) -> int:
    with database.session() as session:
        settings: dict[str, Any] = {"kind": "train", "model_name": "m", "configuration": {}, "total_images": 10}
        return submit_job(session, **(settings | fields)).id


def claim(database: Database, claimant: Claimant = WORKER, lease_seconds: float = LEASE_SECONDS) -> Lease | None:
    with database.session() as session:
        job = claim_job(session, claimant, lease_seconds)
        return Lease(job.id, job.attempt) if job else None


def claimed(database: Database) -> Lease:
    lease = claim(database)
    assert lease is not None
    return lease


def origins(database: Database, count: int) -> list[Origin]:
    """Make keys; return the origins of requests with them."""
    secret: dict[str, Any] = {"digest": b"0" * 32, "scopes": ["train"], "limits": KeyLimits()}
    with database.session() as session:
        return [
            Origin(create_key(session, COMMAND_LINE, name="k", prefix=f"drk_{number}", **secret).id)
            for number in range(count)
        ]


def test_of_equal_priority_the_key_with_the_fewest_running_jobs_comes_first(database: Database) -> None:
    busy, calm, late = origins(database, 3)
    many = [submit(database, origin=busy) for _ in range(3)]
    few = [submit(database, origin=calm) for _ in range(2)]
    free = [submit(database) for _ in range(2)]
    order = [claimed(database).job_id for _ in range(5)]
    assert order == [many[0], few[0], free[0], many[1], few[1]]
    newcomer, urgent = submit(database, origin=late), submit(database, origin=busy, priority=1)
    assert [claimed(database).job_id for _ in range(4)] == [urgent, newcomer, free[1], many[2]]


def test_the_newest_of_a_key_s_running_jobs_is_due_to_a_key_that_waits_with_none_running(database: Database) -> None:
    busy, other = origins(database, 2)
    for _ in range(3):
        submit(database, origin=busy)
    leases = [claimed(database) for _ in range(3)]

    def due(claimant: Claimant = WORKER, patience: float = 60.0) -> list[bool]:
        return [within(database, is_due_to_another_key, lease, claimant, patience) for lease in leases]

    def waits_long(job_id: int, **changes: Any) -> None:
        with database.session() as session:
            changes |= {"not_before": func.now() - seconds(61.0)}
            session.execute(update(Job).where(Job.id == job_id).values(**changes))

    assert not any(due())
    waits_long(submit(database, origin=busy))  # of the same key
    assert not any(due())
    job = submit(database, origin=other)
    assert not any(due())  # it has not waited long
    assert due(patience=0.0) == [False, False, True]
    for changes in ({"priority": -1}, {"priority": 0, "device": "cuda"}):
        waits_long(job, **changes)
        assert not any(due())
    assert due(Claimant("gpu", "cuda")) == [False, False, True]
    waits_long(job, device="auto")
    assert due() == [False, False, True]
    within(database, stop, leases.pop())
    assert due() == [False, True]
    assert claimed(database).job_id == job
    waits_long(submit(database, origin=other))
    assert not any(due())  # each key has a worker now


def test_the_last_running_job_of_a_key_is_due_to_nobody(database: Database) -> None:
    busy, other = origins(database, 2)
    submit(database, origin=busy)
    lease = claimed(database)
    submit(database, origin=other)
    assert not within(database, is_due_to_another_key, lease, WORKER, 0.0)


def within(database: Database, action: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Run the action in its own transaction."""
    with database.session() as session:
        return action(session, *arguments, **named)


def lapse(database: Database, lease: Lease) -> None:
    """Set the lease's expiry to the past."""
    with database.session() as session:
        session.execute(update(Job).where(Job.id == lease.job_id).values(lease_expires_at=func.now() - seconds(1.0)))


def make_due(database: Database, job_id: int) -> None:
    """End the wait after a failure."""
    with database.session() as session:
        session.execute(update(Job).where(Job.id == job_id).values(not_before=func.now()))


def job(database: Database, job_id: int) -> Job:
    found: Job = within(database, get_job, job_id)
    return found


def statuses(database: Database, job_id: int) -> list[str]:
    events = within(database, events_after, job_id, 0)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    return [event.data["status"] for event in events if event.kind == "status"]


def test_many_claimants_share_the_jobs_without_overlap(database: Database) -> None:
    jobs = {submit(database) for _ in range(12)}
    taken: list[Lease] = []
    begin = threading.Barrier(6)

    def work() -> None:
        begin.wait()
        while (lease := claim(database)) is not None:
            taken.append(lease)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(lease.job_id for lease in taken) == sorted(jobs)
    assert {lease.attempt for lease in taken} == {1}


def test_the_most_urgent_is_claimed_first_and_equals_in_their_order(database: Database) -> None:
    first, second, urgent = submit(database), submit(database), submit(database, priority=5)
    submit(database, device="cuda", priority=9)
    submit(database, kind="sample", priority=-1)
    order = [claimed(database).job_id for _ in range(3)]
    assert order == [urgent, first, second]


def test_a_worker_takes_only_what_it_has_the_devices_for(database: Database) -> None:
    two = submit(database, device="cuda", devices=2)
    assert claim(database, Claimant("cpu", "cpu")) is None
    assert claim(database, Claimant("one", "cuda", 1)) is None
    lease = claim(database, Claimant("two", "cuda", 2))
    assert lease == Lease(two, 1)
    submit(database, device="cpu")
    assert claim(database, Claimant("cuda", "cuda", 8)) is None


WRITES: Mapping[str, Callable[[Session, Lease], object]] = {
    "renew": lambda session, lease: renew(session, lease, 60.0),
    "succeed": succeed,
    "fail": lambda session, lease: fail(session, lease, BROKEN),
    "crash": lambda session, lease: crash(session, lease, BROKEN),
    "stop": stop,
    "metrics": lambda session, lease: record_curve_points(
        session, hold(session, lease), [CurvePoint(5, 1.0, 1.0, 1.0, 1.0, 1)]
    ),
    "log": lambda session, lease: append_log(session, hold(session, lease), ["line"]),
}


def everything(database: Database, job_id: int) -> tuple[object, ...]:
    with database.session() as session:
        row = {column.name: getattr(get_job(session, job_id), column.key) for column in Job.__table__.columns}
        events = [(event.number, event.kind, event.data) for event in events_after(session, job_id, 0)]
        return row, events, list(job_curve(session, job_id, 10)), dict(read_counters(session))


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("end", ["lapsed", "taken over", "finished", "cancelled"])
def test_a_claim_that_is_over_writes_nothing(database: Database, write: str, end: str) -> None:
    job_id = submit(database, max_attempts=9)
    stale = claimed(database)
    if end == "finished":
        within(database, succeed, stale)
    elif end == "cancelled":
        within(database, request_cancel, job_id)
        within(database, stop, stale)
    else:
        lapse(database, stale)
    if end == "taken over":
        assert len(within(database, requeue_lapsed)) == 1
        make_due(database, job_id)
        assert claimed(database) == Lease(job_id, 2)
    before = everything(database, job_id)
    with pytest.raises(LeaseLost):
        within(database, WRITES[write], stale)
    assert everything(database, job_id) == before
    if end != "lapsed":
        with pytest.raises(LeaseLost):
            within(database, cancel_requested, stale)


@pytest.mark.parametrize("write", WRITES)
def test_a_claim_that_stands_writes(database: Database, write: str) -> None:
    job_id = submit(database)
    lease = claimed(database)
    before = everything(database, job_id)
    within(database, WRITES[write], lease)
    assert everything(database, job_id) != before


def test_a_lease_that_lapses_while_its_holder_waits_for_the_record_is_over(database: Database) -> None:
    """Another transaction has locked the record and changes nothing. PostgreSQL then checks no condition again."""
    job_id = submit(database)
    lease = claim(database, lease_seconds=2.0)  # the writer's thread must wait for the record before that
    assert lease is not None
    ended: list[type[Exception] | None] = []

    def write() -> None:
        try:
            within(database, succeed, lease)
            ended.append(None)
        except LeaseLost as lost:
            ended.append(type(lost))

    writer = threading.Thread(target=write)
    with database.session() as locking:
        locking.execute(select(Job).where(Job.id == job_id).with_for_update())
        writer.start()
        lapsed = select(Job.lease_expires_at < func.clock_timestamp()).where(Job.id == job_id)
        waits = select(func.count()).select_from(text("pg_locks")).where(text("NOT granted"))
        wait_until(lambda: within(database, lambda one: one.scalar(waits) and one.scalar(lapsed)), "the lease's end")
    writer.join()
    assert ended == [LeaseLost]
    assert job(database, job_id).status == "running"


ENDS: Mapping[str, Callable[[Database, Lease], object]] = {
    "succeeded": lambda database, lease: within(database, succeed, lease),
    "failed": lambda database, lease: within(database, fail, lease, BROKEN),
    "handed back": lambda database, lease: within(database, stop, lease),
    "crashed": lambda database, lease: within(database, crash, lease, BROKEN),
    "lapsed": lambda database, lease: (lapse(database, lease), within(database, requeue_lapsed)),
    "cancelled": lambda database, lease: (
        within(database, request_cancel, lease.job_id),
        within(database, stop, lease),
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_event_of_an_attempts_end_names_the_attempt(database: Database, end: str) -> None:
    job_id = submit(database)
    within(database, stop, claimed(database))
    ENDS[end](database, claimed(database))
    assert within(database, events_after, job_id, 0)[-1].data["attempt"] == 2


def test_a_renewed_lease_does_not_lapse(database: Database) -> None:
    submit(database)
    lease = claimed(database)
    lapses_in = func.extract("epoch", Job.lease_expires_at - func.clock_timestamp())

    def left(session: Session) -> float:
        return float(session.scalars(select(lapses_in).where(Job.id == lease.job_id)).one())

    assert within(database, left) <= LEASE_SECONDS
    within(database, renew, lease, 3 * LEASE_SECONDS)
    assert 2 * LEASE_SECONDS < within(database, left) <= 3 * LEASE_SECONDS
    assert not within(database, requeue_lapsed)
    within(database, succeed, lease)


def test_a_lapsed_job_runs_again_until_max_attempts_without_progress(database: Database) -> None:
    job_id = submit(database, max_attempts=3)
    for attempt in (1, 2, 3):
        lease = claimed(database)
        assert lease == Lease(job_id, attempt)
        assert claim(database) is None
        lapse(database, lease)
        assert len(within(database, requeue_lapsed)) == 1
        assert not within(database, requeue_lapsed)
        assert claim(database) is None  # it waits before the next attempt
        make_due(database, job_id)
    found = job(database, job_id)
    assert (found.status, found.failures) == ("failed", 3)
    assert found.failure is not None
    assert found.failure["kind"] == "worker_lost"
    assert statuses(database, job_id) == ["queued", "running"] * 3 + ["failed"]
    with database.session() as session:
        counters = read_counters(session)
    assert counters["lease_lapses", ""] == 3
    assert counters["attempts", "lapsed"] == 3
    assert counters["jobs_finished", "train:failed"] == 1


def test_two_reconcilers_at_once_count_a_lapse_once(database: Database) -> None:
    for _ in range(8):
        submit(database)
        lapse(database, claimed(database))
    begin, found = threading.Barrier(4), []

    def reconcile() -> None:
        begin.wait()
        found.append(len(within(database, requeue_lapsed)))

    threads = [threading.Thread(target=reconcile) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(found) == 8
    assert not within(database, requeue_lapsed)
    with database.session() as session:
        assert read_counters(session)["lease_lapses", ""] == 8


def test_a_queued_job_is_cancelled_at_once_and_a_running_one_when_its_worker_has_stopped(database: Database) -> None:
    queued, running = submit(database), submit(database, priority=1)
    lease = claimed(database)
    assert not within(database, cancel_requested, lease)
    assert within(database, request_cancel, queued).status == "cancelled"
    assert within(database, request_cancel, running).status == "cancelling"
    assert within(database, request_cancel, running).status == "cancelling"  # cancelled twice
    assert within(database, cancel_requested, lease)
    within(database, stop, lease)
    assert statuses(database, running) == ["queued", "running", "cancelling", "cancelled"]
    assert claim(database) is None
    with pytest.raises(JobConflict, match="nothing to cancel"):
        within(database, request_cancel, running)
    with pytest.raises(JobNotFound):
        within(database, request_cancel, 10**9)


def test_a_job_whose_worker_is_lost_while_it_cancels_is_cancelled(database: Database) -> None:
    job_id = submit(database)
    lease = claimed(database)
    within(database, request_cancel, job_id)
    lapse(database, lease)
    within(database, requeue_lapsed)
    assert job(database, job_id).status == "cancelled"


def test_success_in_spite_of_a_cancel_is_success(database: Database) -> None:
    job_id = submit(database)
    lease = claimed(database)
    within(database, request_cancel, job_id)
    within(database, succeed, lease)
    assert job(database, job_id).status == "succeeded"


def test_a_worker_that_ends_hands_its_job_back_at_once_and_without_blame(database: Database) -> None:
    job_id = submit(database)
    within(database, stop, claimed(database))
    assert job(database, job_id).failures == 0
    assert claimed(database) == Lease(job_id, 2)


@pytest.mark.parametrize(("was", "end"), [("cancelled", "cancel"), ("failed", "fail")])
def test_what_has_ended_badly_goes_on_when_asked(database: Database, was: Any, end: str) -> None:
    job_id = submit(database)
    lease = claimed(database)
    with pytest.raises(JobConflict):
        within(database, requeue, job_id, was=was)
    if end == "cancel":
        within(database, request_cancel, job_id)
        within(database, stop, lease)
    else:
        within(database, fail, lease, BROKEN)
    assert job(database, job_id).status == was
    within(database, requeue, job_id, was=was)
    found = job(database, job_id)
    assert (found.status, found.failures, found.failure, found.finished_at) == ("queued", 0, None, None)
    assert claimed(database) == Lease(job_id, 2)


def see(database: Database, name: str, device: str, devices: int = 1, fault: str | None = None) -> None:
    within(database, see_worker, name, device, devices, fault)


def well_before(database: Database, seconds_ago: float) -> None:
    """Set the last successful device tests to `seconds_ago`; all workers stay alive."""
    with database.session() as session:
        session.execute(update(Worker).values(device_good_at=Worker.device_good_at - seconds(seconds_ago)))


def wait_long(database: Database) -> None:
    """Set the waiting time of all jobs to an hour."""
    with database.session() as session:
        session.execute(update(Job).values(not_before=Job.not_before - seconds(3600.0)))


def test_a_job_for_which_there_is_no_device_fails_when_patience_ends(database: Database) -> None:
    cuda, cpu = submit(database, device="cuda", devices=2), submit(database)
    see(database, "w", "cuda")
    assert not within(database, fail_unservable, 600.0, 60.0)
    wait_long(database)
    assert len(within(database, fail_unservable, 600.0, 60.0)) == 1
    found = job(database, cuda)
    assert found.status == "failed"
    assert found.failure is not None
    assert found.failure["kind"] == "no_device"
    assert "2 cuda device" in found.failure["detail"]
    assert job(database, cpu).status == "queued"


def test_a_job_for_which_a_worker_lives_is_left_alone(database: Database) -> None:
    submit(database, device="cuda", devices=2)
    wait_long(database)
    see(database, "w", "cuda", 2)
    assert not within(database, fail_unservable, 600.0, 60.0)


def test_patience_is_counted_from_the_last_good_test_of_such_a_device(database: Database) -> None:
    """No job fails if its worker restarts, or its device is repaired, in time."""
    cuda, anywhere = submit(database, device="cuda"), submit(database)
    wait_long(database)
    see(database, "broken", "cuda")
    see(database, "broken", "cuda", fault="its driver is gone")
    assert not within(database, fail_unservable, 600.0, 60.0)
    well_before(database, 601.0)
    assert {one.id for one in within(database, fail_unservable, 600.0, 60.0)} == {cuda, anywhere}
    found = job(database, anywhere).failure
    assert found is not None
    assert "broken is out of order: its driver is gone" in found["detail"]


def test_what_a_healthy_worker_can_run_waits_for_it_beside_a_broken_one(database: Database) -> None:
    cuda, anywhere = submit(database, device="cuda"), submit(database)
    wait_long(database)
    see(database, "broken", "cuda", fault="its driver is gone")
    see(database, "well", "cpu")
    assert [one.id for one in within(database, fail_unservable, 600.0, 60.0)] == [cuda]
    assert job(database, anywhere).status == "queued"


def test_an_auto_job_for_more_devices_than_any_worker_has_does_not_wait_for_ever(database: Database) -> None:
    wide, narrow = submit(database, devices=4), submit(database, devices=2)
    wait_long(database)
    see(database, "w", "cuda", 2)
    assert [one.id for one in within(database, fail_unservable, 600.0, 60.0)] == [wide]
    assert claim(database, Claimant("w", "cuda", 2)) == Lease(narrow, 1)


def test_while_no_worker_lives_no_job_fails_for_want_of_a_device(database: Database) -> None:
    for device in ("cuda", "cpu", "auto"):
        submit(database, device=device)
    wait_long(database)
    assert not within(database, fail_unservable, 600.0, 60.0)


def test_a_job_whose_row_somebody_has_locked_is_known_to_wait(database: Database) -> None:
    job_id = submit(database)
    with database.session() as holding:
        holding.execute(select(Job).where(Job.id == job_id).with_for_update())
        assert claim(database) is None
        assert within(database, job_waits, WORKER)
        assert not within(database, job_waits, Claimant("other", "cuda", 0))
    assert claim(database) == Lease(job_id, 1)
    assert not within(database, job_waits, WORKER)


def test_a_job_that_a_worker_could_not_do_is_handed_back_with_the_reason_and_without_blame(database: Database) -> None:
    job_id = submit(database, max_attempts=1)
    within(database, stop, claimed(database), Failure("no_device", "there is none"))
    found = job(database, job_id)
    assert (found.status, found.failures) == ("queued", 0)
    assert found.failure == {"kind": "no_device", "detail": "there is none"}
    assert within(database, events_after, job_id, 0)[-1].data["reason"] == "there is none"
    again = claimed(database)
    within(database, request_cancel, job_id)
    within(database, stop, again)
    assert (job(database, job_id).status, job(database, job_id).failure) == ("cancelled", None)


def test_idle_workers_live_are_well_and_hold_no_claim(database: Database) -> None:
    for name in ("host", "host:8000", "lost"):
        see(database, name, "cpu")
    see(database, "broken", "cuda", fault="its driver is gone")
    with database.session() as session:
        session.execute(update(Worker).where(Worker.name == "lost").values(seen_at=func.now() - seconds(61.0)))
    assert within(database, count_idle_workers, 60.0) == 2
    submit(database)
    lease = claim(database, Claimant("host:8000:17", "cpu"))
    assert lease is not None
    assert within(database, count_idle_workers, 60.0) == 1
    within(database, request_cancel, lease.job_id)
    assert within(database, count_idle_workers, 60.0) == 1
    within(database, stop, lease)
    assert within(database, count_idle_workers, 60.0) == 2


def test_events_are_numbered_without_gaps_whoever_writes(database: Database) -> None:
    job_id = submit(database)
    lease = claimed(database)

    def write() -> None:
        for number in range(10):
            with database.session() as session:
                append_log(session, hold(session, lease), [f"line {number}"])
                renew(session, lease, 60.0)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert job(database, job_id).log_line_count == 40
    assert statuses(database, job_id) == ["queued", "running"]


def test_pages_of_jobs_hold_each_once(database: Database) -> None:
    jobs = [submit(database, model_name=f"m{number % 2}") for number in range(7)]
    submit(database, kind="sample")
    with database.session() as session:
        pages, before = [], None
        while page := list_jobs(session, kind="train", before=before, limit=3):
            pages += [one.id for one in page]
            before = page[-1].id
        assert pages == jobs[::-1]
        assert [one.id for one in list_jobs(session, kind="train", model_name="m1")] == jobs[1::2][::-1]
    claimed(database)
    with database.session() as session:
        assert [one.id for one in list_jobs(session, kind="train", status="running")] == [jobs[0]]
        assert session.scalar(select(func.count()).select_from(Job)) == 8
