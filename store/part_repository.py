"""Parts: the finished images of a generate job, which its shards store, and the archive that joins them.

Parts may be large. So each function stores them first, and then locks the job's record, which proves the claim.
"""

from collections.abc import Sequence
from typing import BinaryIO

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from darkroom.store.artifacts import Artifacts
from darkroom.store.generate_repository import PART_DAMAGED, lock_generate_job_of, lock_jobs
from darkroom.store.job_forms import SampleWork
from darkroom.store.job_repository import Failure, Lease, fail, hold, requeue
from darkroom.store.tables import GeneratePart, Job


def parts_within(session: Session, generate_job_id: int, first_row: int, rows: int) -> Sequence[GeneratePart]:
    """The parts that begin in rows first_row .. first_row + rows - 1, in order."""
    within = _within(generate_job_id, first_row, rows)
    return session.scalars(select(GeneratePart).where(*within).order_by(GeneratePart.first_row)).all()


def record_part(
    session: Session, lease: Lease, first_row: int, rows: int, data: bytes, drawn_on: str | None = None
) -> None:
    """Store images of a shard, and its progress; raises LeaseLost. A second call does no harm.

    data: must be unique among all parts, so that a damaged part can be replaced. drawn_on: see `GeneratePart`.
    """
    digest = Artifacts(session).put(data)
    job = hold(session, lease)
    work = SampleWork.model_validate(job.configuration)
    new = {"rows": rows, "digest": digest, "drawn_on": drawn_on}
    session.execute(
        upsert(GeneratePart)
        .values(generate_job_id=job.generate_job_id, first_row=first_row, **new)
        .on_conflict_do_update(index_elements=[GeneratePart.generate_job_id, GeneratePart.first_row], set_=new)
    )
    job.images_done = _rows_drawn(session, job, work)
    job.failures = 0  # progress resets the count


def record_result(session: Session, lease: Lease, file: BinaryIO) -> str:
    """Store the finished archive, delete the parts, and return the archive's digest; raises LeaseLost."""
    digest = Artifacts(session).put_file(file)
    generate_job = lock_generate_job_of(session, lease)
    job = hold(session, lease)
    generate_job.result_digest = digest
    session.execute(delete(GeneratePart).where(GeneratePart.generate_job_id == generate_job.id))
    job.images_done = job.total_images
    return digest


def redraw(session: Session, lease: Lease, rows: Sequence[int], detail: str) -> bool:
    """Delete the damaged parts that begin at these rows, queue their shards again, and end the assembly until then.

    A row whose part is missing is drawn again, too. While the assembly is being cancelled, this changes nothing and
    returns False. Raises LeaseLost.
    """
    generate_job = lock_generate_job_of(session, lease)
    if hold(session, lease).status == "cancelling":
        return False
    shards = [job for job in lock_jobs(session, generate_job.id) if job.is_shard]
    for row in rows:
        part = session.get(GeneratePart, (generate_job.id, row))
        if part is not None:
            session.delete(part)
            session.flush()
            Artifacts(session).discard(part.digest)
    for shard in shards:
        work = SampleWork.model_validate(shard.configuration)
        if any(work.first_row <= row < work.first_row + work.rows for row in rows):
            requeue(session, shard.id, was="succeeded")
            shard.images_done = _rows_drawn(session, shard, work)
    fail(session, lease, Failure(PART_DAMAGED, detail))
    return True


def _rows_drawn(session: Session, shard: Job, work: SampleWork) -> int:
    within = _within(shard.generate_job_id, work.first_row, work.rows)
    return session.scalar(select(func.coalesce(func.sum(GeneratePart.rows), 0)).where(*within)) or 0


def _within(generate_job_id: int | None, first_row: int, rows: int) -> Sequence[ColumnElement[bool]]:
    begins = GeneratePart.first_row
    return GeneratePart.generate_job_id == generate_job_id, begins >= first_row, begins < first_row + rows
