"""Laws of keys and of the audit trail in the store."""

import threading
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session

from darkroom.model.config import SamplingConfig
from darkroom.store.audit_repository import Actor, list_audit_events, record
from darkroom.store.checkpoint_repository import register_checkpoint
from darkroom.store.database import Database
from darkroom.store.generate_repository import submit_generate_job
from darkroom.store.job_forms import GenerateRun
from darkroom.store.job_repository import Origin, request_cancel, submit_job
from darkroom.store.key_repository import (
    KeyLimits,
    KeyNotFound,
    TooManyJobs,
    create_key,
    keys_exist,
    list_keys,
    require_room_for_jobs,
    revoke_key,
)
from darkroom.store.tables import ApiKey

BY = Actor("lab", None, "request-1", "10.0.0.2")


def add(session: Session, name: str = "key", **fields: Any) -> ApiKey:
    given: dict[str, Any] = {"prefix": f"drk_{name}", "digest": b"d" * 32, "scopes": ["train"], "limits": KeyLimits()}
    return create_key(session, BY, name=name, **(given | fields))


def job(session: Session, key: ApiKey | None) -> int:
    return submit_job(
        session,
        kind="train",
        model_name="m",
        configuration={},
        total_images=1,
        origin=Origin(None if key is None else key.id),
    ).id


def test_keys_exist_until_the_last_is_revoked(session: Session) -> None:
    assert not keys_exist(session)
    first, second = add(session, "a"), add(session, "b")
    for key, left in ((first, True), (second, False)):
        revoked = revoke_key(session, BY, key.id).revoked_at
        session.flush()
        assert revoked is not None
        assert keys_exist(session) is left
        assert revoke_key(session, BY, key.id).revoked_at == revoked
    assert [key.name for key in list_keys(session)] == ["b", "a"]
    assert [key.name for key in list_keys(session, before=second.id)] == ["a"]
    with pytest.raises(KeyNotFound, match="99"):
        revoke_key(session, BY, 99)
    told = [(event.action, event.target) for event in list_audit_events(session)]
    keys = [f"keys/{first.id}", f"keys/{second.id}"]
    assert told == [
        ("key.revoked", keys[1]),
        ("key.revoked", keys[0]),
        ("key.created", keys[1]),
        ("key.created", keys[0]),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"scopes": []},
        {"scopes": ["root"]},
        {"digest": b"short"},
        {"name": ""},
        {"name": "x" * 101},
        {"limits": KeyLimits(requests_per_minute=0)},
        {"limits": KeyLimits(images_per_day=-1)},
        {"limits": KeyLimits(unfinished_jobs=-1)},
    ],
)
def test_a_key_that_makes_no_sense_is_refused(database: Database, fields: dict[str, Any]) -> None:
    name = fields.pop("name", "key")
    with pytest.raises(IntegrityError), database.session() as session:
        add(session, name, **fields)
    with database.session() as session:
        assert list_audit_events(session) == []  # a failed change writes no audit event


def test_unfinished_jobs_count_each_and_a_generate_job_once(session: Session) -> None:
    mine, theirs = add(session, "mine"), add(session, "theirs")
    checkpoint = register_checkpoint(
        session,
        model_name="m",
        data=b"weights",
        configuration={},
        class_names=["zero"],
        images_seen=1,
        metrics={},
        source="shipped",
    )
    run = GenerateRun(class_indices=(0,), images_per_class=10, seed=0, sampling=SamplingConfig(), format="npz")
    first = job(session, mine)
    job(session, mine)
    job(session, theirs)
    job(session, None)
    _, shards = submit_generate_job(session, checkpoint, run, shard_images=2, origin=Origin(mine.id))
    assert len(shards) == 5
    require_room_for_jobs(session, mine.id, 2, limit=5)
    with pytest.raises(TooManyJobs, match="3 unfinished jobs, and may have 5"):
        require_room_for_jobs(session, mine.id, 3, limit=5)
    request_cancel(session, first)
    session.flush()
    require_room_for_jobs(session, mine.id, 3, limit=5)


def test_two_requests_at_once_cannot_both_take_the_last_place(database: Database) -> None:
    with database.session() as session:
        key = add(session)
    start, refused = threading.Barrier(2), []

    def submit() -> None:
        start.wait()
        try:
            with database.session() as session:
                require_room_for_jobs(session, key.id, 1, limit=1)
                job(session, key)
        except TooManyJobs:
            refused.append(1)

    threads = [threading.Thread(target=submit) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == [1]


@pytest.mark.parametrize(
    "statement", ["DELETE FROM audit_events", "UPDATE audit_events SET actor = 'x'", "TRUNCATE audit_events"]
)
def test_the_audit_trail_is_added_to_only(database: Database, statement: str) -> None:
    with database.session() as session:
        record(session, BY, "thing.done", "things/1")
    with pytest.raises(DBAPIError, match="added only"), database.session() as session:
        session.execute(text(statement))
    with database.session() as session:
        (event,) = list_audit_events(session)
    assert (event.actor, event.request_id, event.client_address) == ("lab", "request-1", "10.0.0.2")


def test_an_event_is_there_if_and_only_if_its_change_is(database: Database) -> None:
    def fails(session: Session) -> None:
        add(session)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), database.session() as session:
        fails(session)
    with database.session() as session:
        assert list_keys(session) == []
        assert list_audit_events(session) == []


def test_events_are_paged_and_filtered_newest_first(session: Session) -> None:
    for number in range(6):
        record(session, BY, ("one.done", "two.done")[number % 2], f"things/{number // 2}", {"number": number})
        session.flush()

    def numbers(**asked: Any) -> list[int]:
        return [event.data["number"] for event in list_audit_events(session, **asked)]

    assert numbers() == [5, 4, 3, 2, 1, 0]
    assert numbers(action="one.done") == [4, 2, 0]
    assert numbers(target="things/1") == [3, 2]
    assert numbers(action="two.done", target="things/1") == [3]
    assert numbers(action="none") == []
    page = list_audit_events(session, limit=2)
    assert numbers(before=page[-1].id, limit=2) == [3, 2]
