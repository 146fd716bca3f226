"""Laws of generate jobs over HTTP: the images of POST /generate, each once, of the model that the request names."""

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select, update

from darkroom.store.aliases import set_alias
from darkroom.store.artifacts import CHUNK_BYTES, Artifacts
from darkroom.store.audit_repository import COMMAND_LINE
from darkroom.store.database import Database
from darkroom.store.job_repository import LeaseLost, cancel_requested
from darkroom.store.tables import ArtifactChunk, GenerateJob, Job
from darkroom.worker.shard_drawing import draw_shard
from tests.app.generation.test_fuzz import CLASSES, JSON, PLAUSIBLE
from tests.app.served import CLASS_NAMES, Json, Service, serving, store_weights, tiny_weights, zip_images
from tests.app.test_refusals import assert_problem
from tests.generate_jobs import arrays_of, attempt, carry_out, claim, facts_of, finish, hand_back
from tests.processes import wait_until

LARGEST = 5000


@contextmanager
def _serving(weights: Path, database_url: str) -> Iterator[Service]:
    options = {"database_url": database_url, "default_model": "tiny", "request_rows": 64}
    with serving(weights, **options, generate_job_images=LARGEST) as service:
        wait_until(lambda: len(service.client.get("/v1/models").json()["models"]) == 2, "both models are registered")
        yield service


@pytest.fixture
def served(weights: Path, database_url: str) -> Iterator[Service]:
    """A service with two tiny models and a store. There is no worker: tests do its work."""
    with _serving(weights, database_url) as service:
        yield service


@pytest.fixture(scope="module")
def shared(weights: Path, module_database_url: str) -> Iterator[Service]:
    """As `served`, for tests that look at no job but their own."""
    with _serving(weights, module_database_url) as service:
        yield service


@pytest.fixture(scope="module")
def shared_database(module_database_url: str) -> Iterator[Database]:
    """The database of `shared`."""
    database = Database(module_database_url)
    yield database
    database.dispose()


def create(service: Service, headers: dict[str, str] | None = None, **body: Any) -> Json:
    answer = service.client.post("/v1/generate-jobs", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    job: Json = answer.json()
    assert answer.headers["location"] == f"/v1/generate-jobs/{job['id']}"
    assert service.client.get(answer.headers["location"]).json() == job
    return job


def look(service: Service, job: Json) -> Json:
    found: Json = service.client.get(f"/v1/generate-jobs/{job['id']}").json()
    return found


def download(service: Service, job: Json) -> bytes:
    answer = service.client.get(look(service, job)["result"])
    assert answer.status_code == 200, answer.text
    return answer.content


REQUEST: dict[str, Any] = {"class": ["Größe", 0], "n": 5, "seed": 3, "guidance": 1.5, "steps": 6}


RANKS = {"first_index", "best_of", "score", "indices", "scores"}
"""Fields that a job's facts do not have, because a job does not rank images."""


@pytest.mark.parametrize(
    "settings_",
    [
        {"sampler": "dpmpp_2m", "threshold": "static"},
        {"sampler": "ddpm", "variance": "beta"},
        {"sampler": "ddim", "eta": 0.5, "percentile": 0.9},
        {"sampler": "ipndm", "spacing": "edm", "guidance_interval": [0.3, 3.0]},
        {"sampler": "unipc", "threshold": "none", "guidance": 0.0, "model": "other"},
    ],
)
def test_the_result_has_the_images_of_a_generate_request(
    shared: Service, shared_database: Database, settings_: dict[str, Any]
) -> None:
    body = REQUEST | settings_
    at_once = shared.images(**body)
    for form in ("npz", "zip"):
        job = create(shared, **body, format=form, shard_images=3)
        assert (job["status"], job["images_done"], job["total_images"]) == ("queued", 0, 10)
        assert job["shards"] == {
            name: 4 * (name == "queued")
            for name in ("queued", "running", "cancelling", "succeeded", "failed", "cancelled")
        }
        finish(shared_database, job["id"])
        assert look(shared, job)["status"] == "succeeded"
        data = download(shared, job)
        images, facts = (arrays_of(data)["images"], facts_of(data)) if form == "npz" else zip_images(data)
        difference = np.abs(images.astype(int) - at_once)
        assert difference.max() <= 1
        assert (difference == 0).mean() > 0.99
        assert facts["classes"] == job["classes"] == ["Größe", "Zero"]
        answer = shared.generate(**body)
        names = set(answer) - {"id", "timings", "images", "drawn_on"} - RANKS
        told = names - {"choice"}
        assert {name: facts[name] for name in told} == {name: answer[name] for name in told}
        assert {name: job[name] for name in names} == {name: answer[name] for name in names}


def test_the_job_has_the_choice_of_quality(served: Service, database: Database) -> None:
    body = {"class": 0, "n": 2, "seed": 3, "quality": "fast"}
    answer, job = served.generate(**body), create(served, **body)
    assert job["choice"] == answer["choice"]
    assert answer["choice"]["from"] == "defaults"


@pytest.mark.parametrize("form", ["npz", "zip"])
def test_equal_jobs_have_one_result(served: Service, database: Database, form: str) -> None:
    jobs = [create(served, **REQUEST, format=form) for _ in range(2)]
    for job in jobs:
        finish(database, job["id"])
    assert len({look(served, job)["result_digest"] for job in jobs}) == 1


def test_without_a_class_every_class_is_drawn_also_if_one_is_named_all(served: Service, database: Database) -> None:
    everything = create(served, n=2, seed=1)
    assert everything["classes"] == list(CLASS_NAMES)
    labels = arrays_of(finish(database, everything["id"]))["labels"]
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    store_weights(database, tiny_weights("named", class_names=("all", "none")))
    assert create(served, **{"class": "all"}, n=1, model="named")["classes"] == ["all"]
    assert create(served, n=1, model="named")["classes"] == ["all", "none"]
    store_weights(database, tiny_weights("lacking", class_names=("a", "b", "c"), undrawn=(1,)))
    assert create(served, n=1, model="lacking")["classes"] == ["a", "c"]
    for path, body in (
        ("generate-jobs", {"class": "b", "n": 1}),
        ("generate", {"class": ["a", 1]}),
        ("interpolate", {"class": ["a", "B"], "seeds": [1, 2], "count": 3}),
    ):
        problem = assert_problem(served.client.post(f"/v1/{path}", json=body | {"model": "lacking"}), 422)
        assert problem["errors"][0]["pointer"] == ("/class" if path == "generate-jobs" else "/class/1")
        assert "no image of the class 'b'; name one of a, c" in problem["detail"]
    assert served.client.get("/v1/models/lacking/versions/1").json()["undrawn"] == ["b"]


def test_an_npz_is_read_without_pickle_and_numbers_its_images(served: Service, database: Database) -> None:
    job = create(served, **REQUEST)
    arrays = arrays_of(finish(database, job["id"]))
    assert arrays["images"].shape == (10, 8, 8, 1)
    assert arrays["images"].dtype == np.uint8
    assert arrays["labels"].tolist() == [3] * 5 + [0] * 5
    assert arrays["indices"].tolist() == [*range(5), *range(5)]
    assert arrays["seeds"].tolist() == [3] * 10


def test_a_job_keeps_the_production_version_of_its_request(served: Service, database: Database) -> None:
    before = served.images(**REQUEST)
    job = create(served, **REQUEST)
    store_weights(database, tiny_weights(seed=9), source="trained")
    with database.session() as session:
        set_alias(session, COMMAND_LINE, "tiny", "production", 2)
    data = finish(database, job["id"])
    assert np.abs(arrays_of(data)["images"].astype(int) - before).max() <= 1
    assert look(served, job)["version"] == job["version"] == facts_of(data)["version"]
    assert look(served, job)["version_number"] == 1


def test_a_repeated_key_creates_nothing(served: Service, database: Database) -> None:
    key = {"Idempotency-Key": "once"}
    first = create(served, key, **{"class": 0}, n=3)
    assert create(served, key, **{"class": 0}, n=3) == first  # the random seed is the same too
    refused = served.client.post("/v1/generate-jobs", json={"class": 0, "n": 4}, headers=key)
    assert_problem(refused, 422)
    other = create(served, {"Idempotency-Key": "another"}, **{"class": 0}, n=3)
    assert other["id"] != first["id"]
    assert _generate_jobs(database) == 2
    with database.session() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 2


def test_the_attempts_are_those_of_every_shard(shared: Service, shared_database: Database) -> None:
    for told, kept in (({"max_attempts": 7}, 7), ({}, 3)):
        job = create(shared, **REQUEST, **told, shard_images=5)
        with shared_database.session() as session:
            shards = session.scalars(select(Job).where(Job.generate_job_id == job["id"])).all()
        assert [shard.max_attempts for shard in shards] == [kept, kept]


def test_jobs_are_listed_newest_first_and_once(served: Service) -> None:
    made = [create(served, **{"class": number % 4})["id"] for number in range(5)]
    seen: list[int] = []
    before: dict[str, int] = {}
    while True:
        page = served.client.get("/v1/generate-jobs", params={"limit": 2} | before).json()
        seen += [job["id"] for job in page["generate_jobs"]]
        if page["next_before"] is None:
            break
        before = {"before": page["next_before"]}
    assert seen == made[::-1]


def test_cancelled_jobs_can_be_retried_and_finished_ones_neither_cancelled_nor_retried(
    served: Service, database: Database
) -> None:
    job = create(served, **REQUEST, shard_images=5)
    shard, lease = claim(database)
    assert look(served, job)["status"] == "running"
    at = f"/v1/generate-jobs/{job['id']}"
    cancelled = False

    def heard() -> bool:
        nonlocal cancelled
        if not cancelled:
            cancelled = True
            answer = served.client.post(f"{at}/cancel")
            assert answer.status_code == 202
            assert answer.json()["status"] == "cancelling"
        with database.session() as session:
            return cancel_requested(session, lease)

    assert not draw_shard(attempt(shard, lease, database, heard))
    hand_back(database, lease)
    assert look(served, job)["status"] == "cancelled"
    assert look(served, job)["shards"]["cancelled"] == 2
    assert_problem(served.client.post(f"{at}/cancel"), 409)
    assert_problem(served.client.get(f"{at}/result"), 409)
    with pytest.raises(LeaseLost):
        carry_out(database, shard, lease)

    assert served.client.post(f"{at}/retry").json()["shards"]["queued"] == 2
    finish(database, job["id"])
    for action in ("cancel", "retry"):
        assert_problem(served.client.post(f"{at}/{action}"), 409)
    whole = create(served, **REQUEST, shard_images=5)
    finish(database, whole["id"])
    images = [arrays_of(download(served, one))["images"] for one in (job, whole)]
    np.testing.assert_array_equal(*images)


def test_a_result_has_type_name_and_an_etag_that_saves_a_second_download(served: Service, database: Database) -> None:
    job = create(served, **REQUEST)
    data = finish(database, job["id"])
    at = look(served, job)["result"]
    answer = served.client.get(at)
    assert answer.content == data
    assert answer.headers["content-length"] == str(len(data))
    assert answer.headers["etag"] == f'"{look(served, job)["result_digest"]}"'
    assert answer.headers["content-type"] == "application/x-npz"
    assert f"-{job['id']}.npz" in answer.headers["content-disposition"]
    for known in (answer.headers["etag"], f'"other", W/{answer.headers["etag"]}'):
        again = served.client.get(at, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
    assert served.client.get(at, headers={"If-None-Match": '"other"'}).content == data
    tag = answer.headers["etag"]
    for lines in (['"other",W/"x",  ' + tag], ['"other"', tag], ["*"], [f"W/{tag}"]):
        several = [("If-None-Match", line) for line in lines]
        assert served.client.get(at, headers=several).status_code == 304, lines
    part = served.client.get(at, headers={"Range": "bytes=10-29", "If-Range": tag})
    assert (part.status_code, part.content) == (206, data[10:30])
    assert part.headers["content-range"] == f"bytes 10-29/{len(data)}"
    head = served.client.head(at, headers={"Range": "bytes=10-29"})
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(data)))
    beyond = served.client.get(at, headers={"Range": f"bytes={len(data)}-"})
    assert assert_problem(beyond, 416)["type"] == "/docs/errors#range-not-satisfiable"
    assert beyond.headers["content-range"] == f"bytes */{len(data)}"


@pytest.mark.parametrize("damage", ["flipped", "cut", "doubled"])
@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_a_damaged_result_never_looks_whole(
    shared: Service, shared_database: Database, damage: str, chunk: int
) -> None:
    job = create(shared, **REQUEST)
    data = random.Random(f"{damage} {chunk}").randbytes(2 * CHUNK_BYTES + 1000)
    with shared_database.session() as session:
        digest = Artifacts(session).put(data)
        session.execute(update(GenerateJob).where(GenerateJob.id == job["id"]).values(result_digest=digest))
    at = f"/v1/generate-jobs/{job['id']}/result"
    assert shared.client.get(at).content == data
    with shared_database.session() as session:
        here = (ArtifactChunk.digest == digest) & (ArtifactChunk.position == chunk)
        stored = session.scalars(select(ArtifactChunk.data).where(here)).one()
        if damage == "cut":
            session.execute(delete(ArtifactChunk).where(here))
        else:
            wrong = stored[:-1] + bytes([stored[-1] ^ 1]) if damage == "flipped" else stored * 2
            session.execute(update(ArtifactChunk).where(here).values(data=wrong))
    try:
        answer = shared.client.get(at)
    except httpx.RemoteProtocolError:
        return
    problem = assert_problem(answer, 500)
    assert "corrupted" in problem["detail"]


def test_slow_readers_hold_no_connections(served: Service, database: Database) -> None:
    """Twice as many readers as database connections stop in the middle of a result. Other requests are answered."""
    job = create(served, **REQUEST)
    data = random.Random(1).randbytes(40 * CHUNK_BYTES)
    with database.session() as session:
        session.execute(update(GenerateJob).values(result_digest=Artifacts(session).put(data)))
    limits = httpx.Limits(max_connections=None)
    with httpx.Client(base_url=served.url, timeout=60.0, trust_env=False, limits=limits) as client:
        readers = []
        for _ in range(20):
            answer = client.send(client.build_request("GET", f"/v1/generate-jobs/{job['id']}/result"), stream=True)
            readers.append((answer, answer.iter_bytes()))
            assert next(readers[-1][1])
        time.sleep(0.5)
        assert look(served, job)["id"] == job["id"]
        first, rest = readers[0]
        assert first.num_bytes_downloaded + sum(map(len, rest)) >= len(data)
        for answer, _ in readers:
            answer.close()


@pytest.mark.parametrize(
    ("change", "pointer", "says"),
    [
        ({"class": "Cat"}, "/class", ", ".join(CLASS_NAMES)),
        ({"class": ["One", 4]}, "/class/1", "0..3"),
        ({"class": []}, "/class", "at least 1"),
        ({"class": True}, "/class", ""),
        ({"n": 0}, "/n", "greater than or equal to 1"),
        ({"n": "3"}, "/n", "integer"),
        ({"n": LARGEST + 1}, "/n", str(LARGEST)),
        ({"n": LARGEST // 4 + 1, "class": [0, 1, 2, 3]}, "/n", str(LARGEST)),
        ({"n": 2**70}, "/n", str(LARGEST)),
        ({"n": 1001, "shard_images": 1}, "/shard_images", "at least 2"),
        ({"shard_images": 0}, "/shard_images", "1"),
        ({"seed": 2**63}, "/seed", ""),
        ({"steps": 501}, "/steps", "500 diffusion steps"),
        ({"guidance": float("inf")}, "/guidance", "finite"),
        ({"sampler": "euler"}, "/sampler", "dpmpp_2m"),
        ({"model": "unknown"}, "/model", "other, tiny"),
        ({"format": "png"}, "/format", "npz"),
        ({"priority": 101}, "/priority", "100"),
        ({"max_attempts": 0}, "/max_attempts", "1"),
        ({"max_attempts": 101}, "/max_attempts", "100"),
        ({"stream": True}, "/stream", "not permitted"),
        ({"deadline_seconds": 3}, "/deadline_seconds", "not permitted"),
    ],
)
def test_faulty_fields_are_named_and_nothing_is_created(
    shared: Service, shared_database: Database, change: dict[str, Any], pointer: str, says: str
) -> None:
    before = _generate_jobs(shared_database)
    answer = shared.client.post(
        "/v1/generate-jobs",
        content=json.dumps({"class": "One"} | change),
        headers={"Content-Type": "application/json"},
    )
    problem = assert_problem(answer, 422)
    faults = {error["pointer"]: error["detail"] for error in problem["errors"]}
    assert says in faults[pointer]
    assert _generate_jobs(shared_database) == before


def _generate_jobs(database: Database) -> int:
    with database.session() as session:
        return session.scalar(select(func.count()).select_from(GenerateJob)) or 0


BODIES = st.fixed_dictionaries(
    {"n": st.integers(-1, 40)},
    optional={
        name: strategy | JSON
        for name, strategy in (PLAUSIBLE | {"class": CLASSES, "format": st.sampled_from(["npz", "zip"])}).items()
        if name not in ("n", "stream", "grid", "preview_every_steps")
    }
    | {"shard_images": st.integers(0, 50), "priority": st.integers(-200, 200), "max_attempts": st.integers(0, 101)},
)


def test_no_body_is_answered_with_a_server_error(shared: Service) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(BODIES | JSON)
    def check(body: Any) -> None:
        answer = shared.client.post(
            "/v1/generate-jobs", content=json.dumps(body), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code in (202, 400, 422), answer.text
        if answer.status_code != 202:
            assert answer.headers["content-type"] == "application/problem+json"

    check()


def test_an_unknown_job_is_not_found(shared: Service) -> None:
    for method, path in (("GET", ""), ("GET", "/result"), ("POST", "/cancel"), ("POST", "/retry")):
        assert_problem(shared.client.request(method, f"/v1/generate-jobs/1000000{path}"), 404)
        assert_problem(shared.client.request(method, f"/v1/generate-jobs/x{path}"), 422)
        assert_problem(shared.client.request(method, f"/v1/generate-jobs/{2**63}{path}"), 422)
    assert_problem(shared.client.post("/v1/generate-jobs", content="{}"), 415)


def test_without_a_database_generate_jobs_say_so(service: Service) -> None:
    assert_problem(service.client.get("/v1/generate-jobs"), 503)
    assert_problem(service.client.get("/v1/generate-jobs/1/result"), 503)
    assert_problem(service.client.post("/v1/generate-jobs", json={"class": 0}), 503)


def test_every_status_of_these_tests_is_documented(service: Service) -> None:
    paths = service.client.get("/openapi.json").json()["paths"]
    expected = {
        ("/v1/generate-jobs", "post"): {"202", "400", "408", "410", "413", "415", "422", "500", "503"},
        ("/v1/generate-jobs", "get"): {"200", "422", "500", "503"},
        ("/v1/generate-jobs/{id}", "get"): {"200", "404", "422", "500", "503"},
        ("/v1/generate-jobs/{id}/cancel", "post"): {"202", "404", "409", "422", "500", "503"},
        ("/v1/generate-jobs/{id}/retry", "post"): {"202", "404", "409", "422", "500", "503"},
        ("/v1/generate-jobs/{id}/result", "get"): {"200", "206", "304", "404", "409", "416", "422", "500", "503"},
    }
    gate = {"401", "403", "429"}
    assert {at: set(paths[at[0]][at[1]]["responses"]) - gate for at in expected} == expected
