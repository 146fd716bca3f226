"""Laws of artifacts outside PostgreSQL, for API, worker and reconciler together: a bucket of S3 and a shared folder."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from darkroom.store.artifacts import Artifacts
from darkroom.store.database import Database
from darkroom.store.job_repository import events_after
from darkroom.store.tables import Artifact, ArtifactChunk
from tests.app.served import Service, weights_folder
from tests.app.test_refusals import assert_problem
from tests.fixtures.s3 import KEY_ID, SECRET, Bucket
from tests.processes import wait_until
from tests.system.cluster import Cluster, cluster
from tests.system.test_jobs import last_weights, long_recipe, undisturbed


class Storage:
    """Where artifacts lie. digests: those whose bytes are there; outage: makes it refuse all requests for a block."""

    def __init__(
        self, url: str, digests: Callable[[], set[str]], outage: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self.url = url
        self.digests = digests
        self.outage = outage


@pytest.fixture(params=["folder", "bucket"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    if request.param == "bucket":
        bucket: Bucket = request.getfixturevalue("bucket")
        return Storage(bucket.url, bucket.digests, bucket.line.being_cut)
    folder = tmp_path / "shared"
    folder.mkdir()
    monkeypatch.setenv("DARKROOM_ARTIFACTS_URL", str(folder))

    @contextmanager
    def unmounted() -> Iterator[None]:
        folder.rename(tmp_path / "unmounted")
        try:
            yield
        finally:
            (tmp_path / "unmounted").rename(folder)

    def digests() -> set[str]:
        return {"sha256:" + path.name for path in folder.rglob("*") if path.is_file()}

    return Storage(str(folder), digests, unmounted)


def age(database: Database) -> None:
    """Make all artifacts so old that the reconciler collects those without a reference."""
    with database.session() as session:
        session.execute(update(Artifact).values(created_at=func.now() - timedelta(days=1)))


def test_training_serving_and_deletion_survive_an_outage_of_the_storage(storage: Storage, tmp_path: Path) -> None:
    with cluster(tmp_path / "cluster", "first", DARKROOM_LEASE_SECONDS="300") as running:
        running.database = Database(running.postgres.url, artifacts_url=storage.url)
        service = Service(running.start_api(weights_folder(tmp_path / "weights")))
        with service.client:
            _lives_through_an_outage(storage, running, service)
        logs = "".join(path.read_text(errors="replace") for path in running.folder.glob("*.log"))
    for secret in (KEY_ID, SECRET):
        assert secret not in logs


def _lives_through_an_outage(storage: Storage, running: Cluster, service: Service) -> None:
    shipped = service.client.get("/v1/models/tiny").json()["newest"][0]["digest"]
    assert shipped in storage.digests()
    before = service.generate(model="tiny", seed=3)

    recipe = long_recipe()
    job_id = running.submit(recipe, running.register())
    wait_until(lambda: running.job(job_id).images_done >= 400, "training")
    worker_log = running.folder / "first.log"
    with storage.outage():
        weights = f"/v1/models/tiny/versions/{shipped}/weights"
        problem = assert_problem(service.client.get(weights), 503)
        assert problem["type"] == "/docs/errors#store-unavailable"
        assert "storage" in problem["detail"]
        assert service.client.get(weights).headers["retry-after"]
        assert service.generate(model="tiny", seed=3)["images"] == before["images"]
        wait_until(lambda: "the artifacts are away, trying again" in worker_log.read_text(), "the worker waits")
    done = running.wait_for(job_id, "succeeded", "failed")
    assert (done.status, done.attempt, done.failures) == ("succeeded", 1, 0), done.failure
    trained = last_weights(running, job_id)
    assert trained == undisturbed(recipe)
    assert trained in storage.digests()
    with running.database.session() as session:
        assert session.scalar(select(ArtifactChunk)) is None
        kinds = [event.data.get("status") for event in events_after(session, job_id, 0)]
    assert kinds.count("running") == 1

    model = f"/v1/models/{recipe.name}"
    promoted = service.client.put(f"{model}/alias/production", json={"version": trained})
    assert promoted.status_code == 200, promoted.text
    drawn = service.generate(model=recipe.name, **{"class": 0}, seed=3)
    assert drawn["version"] == trained
    answer = service.client.get(f"{model}/versions/{trained}/weights")
    assert answer.status_code == 200
    assert answer.headers["etag"] == f'"{trained}"'
    with running.database.session() as session:
        assert Artifacts(session).get(trained) == answer.content
    part = service.client.get(f"{model}/versions/{trained}/weights", headers={"Range": "bytes=7-99"})
    assert (part.status_code, part.content) == (206, answer.content[7:100])

    class Killed(Exception):
        pass

    with suppress(Killed), running.database.session() as session:
        orphan = Artifacts(session).put(b"orphan")
        raise Killed
    assert orphan in storage.digests()
    age(running.database)
    wait_until(lambda: orphan not in storage.digests(), "the reconciler deletes the orphan")
    assert trained in storage.digests()

    assert service.client.delete(f"/v1/train-jobs/{job_id}").status_code == 204
    answer = service.client.delete(model, params={"force": True})
    assert answer.status_code == 204, answer.text
    age(running.database)
    wait_until(lambda: trained not in storage.digests(), "the reconciler deletes the weights")
    assert shipped in storage.digests()
