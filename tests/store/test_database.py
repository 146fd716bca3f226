"""Laws of sessions and URLs."""

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Session

from darkroom.store.artifacts import Artifacts
from darkroom.store.database import Database, parse_url
from darkroom.store.tables import Artifact, Checkpoint, Model


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_spelling_of_the_scheme_means_the_same_driver(scheme: str) -> None:
    url = parse_url(f"{scheme}://ada:s%40fe@db:5433/darkroom?sslmode=require")
    assert url.drivername == "postgresql+psycopg"
    assert (url.username, url.password, url.host, url.port, url.database) == ("ada", "s@fe", "db", 5433, "darkroom")
    assert url.query["sslmode"] == "require"


@pytest.mark.parametrize("url", ["mysql://db/darkroom", "sqlite:///x.db", "postgresql+asyncpg://db/x", "", "s3cret"])
def test_other_urls_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(ValueError, match="DATABASE_URL") as refusal:
        parse_url(url)
    assert "s3cret" not in str(refusal.value)


def _put_and_stop(database: Database) -> None:
    with database.session() as session:
        Artifacts(session).put(b"bytes")
        raise RuntimeError("stop")


def test_a_session_that_raises_leaves_nothing(database: Database) -> None:
    with pytest.raises(RuntimeError, match="stop"):
        _put_and_stop(database)
    with database.session() as session:
        assert session.scalar(select(func.count()).select_from(Artifact)) == 0


def test_a_number_that_is_no_json_is_refused(session: Session) -> None:
    model = Model(name="digits")
    digest = Artifacts(session).put(b"bytes")
    checkpoint = Checkpoint(
        model=model,
        version=1,
        digest=digest,
        size_bytes=5,
        images_seen=0,
        source="trained",
        configuration={},
        class_names=[],
        metrics={"fid": float("nan")},
    )
    session.add(checkpoint)
    with pytest.raises((ValueError, StatementError), match="JSON"):
        session.flush()
    session.rollback()
