"""Laws of the table of job kinds: it has every kind, and an entry has everything that a worker needs."""

import inspect
from pkgutil import resolve_name
from typing import get_args

import pytest
from sqlalchemy import select

from darkroom.store.database import Database
from darkroom.store.tables import Job, JobKind
from darkroom.worker.attempt import Attempt
from darkroom.worker.job_kinds import KINDS
from tests.generate_jobs import claim, submit


def test_every_kind_has_an_entry() -> None:
    assert list(KINDS) == list(get_args(JobKind))


@pytest.mark.parametrize("kind", get_args(JobKind))
def test_the_work_of_every_kind_is_a_function_of_an_attempt(kind: JobKind) -> None:
    work = inspect.signature(resolve_name(KINDS[kind].work), eval_str=True)
    assert ([one.annotation for one in work.parameters.values()], work.return_annotation) == ([Attempt], bool)


def test_a_kind_is_told_by_the_same_name_in_a_query_and_of_a_row(database: Database) -> None:
    submit(database)
    job, _ = claim(database)
    assert (job.is_training, job.is_shard, job.is_assembly) == (False, True, False)
    with database.session() as session:
        for condition, count in ((Job.is_training, 0), (Job.is_shard, 3), (Job.is_assembly, 0)):
            assert len(session.scalars(select(Job).where(condition)).all()) == count
