"""Laws of models, versions and aliases."""

import threading

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from darkroom.model.digest import digest_of
from darkroom.store.aliases import set_alias
from darkroom.store.audit_repository import COMMAND_LINE
from darkroom.store.checkpoint_repository import checkpoint_bytes, list_checkpoints, register_checkpoint
from darkroom.store.database import Database
from darkroom.store.model_repository import ModelNotFound, VersionNotFound, get_model, list_models, resolve
from darkroom.store.tables import Checkpoint, CheckpointSource, Model, ModelAlias


def _register(
    session: Session, data: bytes, source: CheckpointSource = "imported", model_name: str = "digits"
) -> Checkpoint:
    return register_checkpoint(
        session,
        model_name=model_name,
        data=data,
        configuration={"schedule": {"name": "cosine", "steps": 1000}},
        class_names=["zero", "one"],
        images_seen=5_000_000_000,
        metrics={"fid": 12.5},
        source=source,
    )


def _production(session: Session) -> str:
    return resolve(session, "digits").digest


def test_a_registered_checkpoint_is_read_back(database: Database) -> None:
    with database.session() as session:
        _register(session, b"weights")
    with database.session() as session:
        found = resolve(session, "digits", 1)
        assert (found.model.name, found.version, found.source, found.size_bytes) == ("digits", 1, "imported", 7)
        assert found.configuration == {"schedule": {"name": "cosine", "steps": 1000}}
        assert (found.class_names, found.images_seen) == (["zero", "one"], 5_000_000_000)
        assert found.metrics == {"fid": 12.5}
        assert found.created_at.tzinfo is not None
        assert checkpoint_bytes(session, found) == b"weights"


def test_registering_the_same_bytes_again_changes_nothing(session: Session) -> None:
    first = _register(session, b"a", "shipped")
    _register(session, b"b", "shipped")
    again = _register(session, b"a", "shipped")
    assert (again.id, again.version) == (first.id, first.version)
    assert get_model(session, "digits").versions == 2
    assert _production(session) == digest_of(b"b")


def test_the_same_bytes_may_belong_to_two_models(session: Session) -> None:
    one, other = _register(session, b"a"), _register(session, b"a", model_name="other")
    assert (one.digest, one.version) == (other.digest, other.version)
    assert one.id != other.id


def test_simultaneous_registrations_number_the_versions_without_gaps(database: Database) -> None:
    start = threading.Barrier(4)

    def register(data: bytes) -> None:
        start.wait()
        with database.session() as session:
            _register(session, data)

    threads = [threading.Thread(target=register, args=(data,)) for data in (b"a", b"b", b"c", b"a")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.session() as session:
        assert sorted(c.version for c in list_checkpoints(session, "digits")) == [1, 2, 3]


@pytest.mark.parametrize("source", ["shipped", "imported"])
def test_the_first_checkpoint_that_was_not_trained_becomes_production(
    session: Session, source: CheckpointSource
) -> None:
    _register(session, b"trained", "trained")
    with pytest.raises(VersionNotFound):
        resolve(session, "digits")
    _register(session, b"a", source)
    assert _production(session) == digest_of(b"a")


@pytest.mark.parametrize(
    ("before", "newer", "moves"),
    [
        ("shipped", "shipped", True),
        ("shipped", "trained", False),
        ("shipped", "imported", False),
        ("trained", "shipped", False),
        ("imported", "shipped", False),
        ("trained", "trained", False),
    ],
)
def test_production_moves_from_shipped_to_shipped_only(
    session: Session, before: CheckpointSource, newer: CheckpointSource, moves: bool
) -> None:
    set_alias(session, COMMAND_LINE, "digits", "production", _register(session, b"before", before).version)
    _register(session, b"newer", newer)
    assert _production(session) == digest_of(b"newer" if moves else b"before")


def test_a_promotion_survives_an_update_of_the_shipped_checkpoint(session: Session) -> None:
    _register(session, b"shipped 1", "shipped")
    trained = _register(session, b"trained", "trained")
    set_alias(session, COMMAND_LINE, "digits", "production", trained.version)
    _register(session, b"shipped 2", "shipped")
    assert _production(session) == trained.digest


def test_every_name_of_a_version_resolves_to_it(session: Session) -> None:
    _register(session, b"a")
    second = _register(session, b"b")
    set_alias(session, COMMAND_LINE, "digits", "candidate", 2)
    for name in (2, "2", second.digest, "candidate"):
        assert resolve(session, "digits", name).id == second.id
    assert resolve(session, "digits").version == resolve(session, "digits", "production").version == 1


def test_the_error_about_a_version_tells_a_few_that_are_kept(session: Session) -> None:
    for number in range(9):
        _register(session, b"%d" % number, "trained")
    session.execute(update(Checkpoint).where(Checkpoint.version == 9).values(artifact_digest=None))
    set_alias(session, COMMAND_LINE, "digits", "best", 3)
    with pytest.raises(VersionNotFound) as unknown:
        resolve(session, "digits", "latest")
    assert str(unknown.value) == (
        "model 'digits' has no version or alias 'latest'; it has 9 versions, the newest that are kept: digits@8, "
        "digits@7, digits@6, digits@5, digits@4; its aliases: digits@best"
    )
    with pytest.raises(VersionNotFound, match=r"'digits' has 9 versions, and none is in production, .*digits@8"):
        resolve(session, "digits")


@pytest.mark.parametrize("version", [0, 2, "2", "-1", "99999999999999999999", "²", "latest", "", "sha256:" + "0" * 64])
def test_unknown_versions_are_named_in_the_error(session: Session, version: str | int) -> None:
    _register(session, b"a")
    with pytest.raises(VersionNotFound, match="digits"):
        resolve(session, "digits", version)


def test_unknown_models_are_named_in_the_error(session: Session) -> None:
    with pytest.raises(ModelNotFound, match="nothing"):
        resolve(session, "nothing")
    with pytest.raises(ModelNotFound, match="nothing"):
        get_model(session, "nothing")
    with pytest.raises(ModelNotFound, match="nothing"):
        list_checkpoints(session, "nothing")
    with pytest.raises(ModelNotFound, match="nothing"):
        set_alias(session, COMMAND_LINE, "nothing", "production", 1)


def test_an_alias_moves_there_and_back(session: Session) -> None:
    _register(session, b"a")
    _register(session, b"b")
    for version in (2, 1, 2):
        set_alias(session, COMMAND_LINE, "digits", "production", version)
        assert resolve(session, "digits").version == version
    assert session.scalar(select(func.count()).select_from(ModelAlias)) == 1


@pytest.mark.parametrize("alias", ["7", "", "A", "sha256:1", "a b"])
def test_an_alias_that_could_mean_something_else_is_refused(database: Database, alias: str) -> None:
    with database.session() as session:
        _register(session, b"a")
    with pytest.raises(IntegrityError), database.session() as session:
        set_alias(session, COMMAND_LINE, "digits", alias, 1)


def test_an_alias_cannot_point_into_another_model(database: Database) -> None:
    with database.session() as session:
        _register(session, b"a")
        foreign = _register(session, b"b", model_name="other").id
        model_id = session.scalars(select(Model.id).where(Model.name == "digits")).one()
    with pytest.raises(IntegrityError), database.session() as session:
        session.add(ModelAlias(model_id=model_id, alias="stolen", checkpoint_id=foreign))


def test_pages_of_models_hold_each_model_once_and_in_order(session: Session) -> None:
    names = sorted(f"model-{number}" for number in range(11))
    for name in reversed(names):
        _register(session, name.encode(), model_name=name)
    for limit in (1, 3, 11, 12):
        seen: list[str] = []
        after: str | None = None
        while True:
            page = list_models(session, after, limit)
            assert 1 <= len(page.models) <= limit
            seen += [model.name for model in page.models]
            after = page.next_after
            if after is None:
                break
        assert seen == names


def test_a_model_added_between_two_pages_moves_nothing(session: Session) -> None:
    for name in ("b", "d", "f"):
        _register(session, b"x", model_name=name)
    first = list_models(session, limit=2)
    _register(session, b"x", model_name="a")
    _register(session, b"x", model_name="e")
    rest = list_models(session, first.next_after, limit=5)
    assert [m.name for m in (*first.models, *rest.models)] == ["b", "d", "e", "f"]


def test_a_summary_counts_versions_and_shows_aliases(session: Session) -> None:
    _register(session, b"a")
    second = _register(session, b"b")
    _register(session, b"c", model_name="other")
    set_alias(session, COMMAND_LINE, "digits", "candidate", 2)
    digits, other = list_models(session).models
    assert (digits.versions, other.versions) == (2, 1)
    assert {alias: target.version for alias, target in digits.aliases.items()} == {"production": 1, "candidate": 2}
    assert digits.aliases["candidate"].digest == second.digest


def test_checkpoints_are_listed_newest_first_by_pages(session: Session) -> None:
    for data in (b"a", b"b", b"c"):
        _register(session, data)
    first = list_checkpoints(session, "digits", limit=2)
    assert [c.version for c in first] == [3, 2]
    assert [c.version for c in list_checkpoints(session, "digits", before=2)] == [1]
