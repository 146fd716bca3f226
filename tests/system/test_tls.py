"""Laws of PostgreSQL and Redis on another host: API and worker check their certificate. Both servers are real ones.

Their options are those of deploy/compose/servers.yml, the clients' addresses those of docker-compose.workers.yml.
"""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import kombu.pools
import psycopg
import pytest

from darkroom.app.embedded.account import service_account
from darkroom.app.embedded.postgres import PrivatePostgres
from darkroom.app.embedded.process import ChildProcess, Pause
from darkroom.app.embedded.redis import PrivateRedis
from darkroom.store.database import Database
from darkroom.store.hints import REDIS_AWAY, Hints, broker_answers
from tests.app.served import weights_folder
from tests.compose import ROOT, SERVERS, WORKERS, compose
from tests.processes import free_port, wait_until
from tests.programs import program
from tests.system import cluster as clusters
from tests.system.cluster import Cluster, cluster
from tests.system.test_jobs import long_recipe

ADDRESS, OTHER_ADDRESS = "127.0.0.1", "127.0.0.2"
PORTS = {"DARKROOM_POSTGRES_PORT": str(free_port()), "DARKROOM_REDIS_PORT": str(free_port())}
PASSWORD = "secret"


def _certificate(folder: Path, address: str) -> Path:
    """Make a certificate; returns the folder."""
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"SECRETS_FOLDER": str(folder)}
    subprocess.run([ROOT / "deploy/make-certificate", address], env=environment, check=True)
    return folder


def _options(name: str, after: str, places: dict[str, str]) -> list[str]:
    """Return what servers.yml adds to a server's command line, with paths of this machine."""
    service = compose(SERVERS, DARKROOM_SERVERS_BIND=ADDRESS)["services"][name]
    script = next(part for part in service.get("entrypoint", service.get("command")) if after in part)
    text = script.partition(after)[2].replace("\\\n", " ")
    for place, here in places.items():
        text = text.replace(place, here)
    return str(text).split()


def _url(name: str, folder: Path) -> str:
    """Return the address that a worker on another host uses, with a certificate of `folder`."""
    told = compose(WORKERS, DARKROOM_SERVERS=ADDRESS, **PORTS)["x-worker"]["environment"][name]
    told = told.replace("/run/secrets", str(folder)).replace("darkroom_service@", f"postgres:{PASSWORD}@")
    return str(told).replace("rediss://", f"rediss://:{PASSWORD}@")


class SecuredPostgres(PrivatePostgres):
    """PostgreSQL of Debian, because the private one has no TLS."""

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self._folder = state / "certificate"
        self._programs = Path(program("postgres", "postgresql")).resolve().parent

    @property
    def url(self) -> str:
        return _url("DATABASE_URL", self._folder)

    def start(self, pause: Pause = time.sleep) -> None:
        account = service_account(self.data, self._programs)
        self._create_cluster(self._programs, account, pause)
        key = self.data / "servers_key"
        shutil.copy(self._folder / "servers_key", key)
        key.chmod(0o600)
        shutil.copy(self._folder / "servers_certificate", self.data)
        shutil.copy(ROOT / "deploy/compose/pg_hba.conf", self.data / "own_hba.conf")
        if account:
            os.chown(self.data, 0, 0)
            account.own(self.data)
        self._socket_folder.mkdir(parents=True)
        if account:
            os.chown(self._socket_folder, account.uid, account.gid)
        places = {
            "/run/secrets/servers_certificate": str(self.data / "servers_certificate"),
            "/tmp/servers_key": str(key),
            "/etc/darkroom/pg_hba.conf": str(self.data / "own_hba.conf"),
        }
        port, own = PORTS["DARKROOM_POSTGRES_PORT"], _options("postgres", '"${@:-postgres}"', places)
        self.process = ChildProcess(
            "PostgreSQL",
            [
                *(str(self._programs / "postgres"), "-D", str(self.data), "-k", str(self._socket_folder), "-p", port),
                *("-c", f"listen_addresses={ADDRESS},{OTHER_ADDRESS}", *own),
            ],
            log=self.log,
            account=account,
            parent_death_signal=signal.SIGQUIT,
        )
        process, local = self.process, f"host={self._socket_folder} port={port} user=postgres dbname=postgres"
        wait_until(lambda: process.exit_code() is not None or _connects(local), "PostgreSQL answers")
        assert process.exit_code() is None, process.log_tail()
        with psycopg.connect(local, autocommit=True) as connection:
            connection.execute(f"ALTER ROLE postgres PASSWORD '{PASSWORD}'")
            connection.execute("CREATE DATABASE darkroom")


class SecuredRedis(PrivateRedis):
    """Redis of Debian, because the private one has no TLS."""

    def __init__(self, state: Path) -> None:
        super().__init__(state)
        self._folder = state / "certificate"

    @property
    def url(self) -> str:
        return _url("REDIS_URL", self._folder)

    def start(self, pause: Pause = time.sleep) -> None:
        options = _options("redis", "/etc/redis/redis.conf", {"/run/secrets": str(self._folder), "6380": _redis_port()})
        own = ("--port", "0", "--save", "", "--requirepass", PASSWORD, "--dir", str(self._folder))
        self.process = ChildProcess(
            "Redis",
            [program("redis-server", "redis-server"), *own, *options],
            log=self.log,
            parent_death_signal=signal.SIGTERM,
        )
        wait_until(lambda: broker_answers(self.url), "Redis answers")


def _redis_port() -> str:
    return PORTS["DARKROOM_REDIS_PORT"]


def _connects(address: str) -> bool:
    try:
        psycopg.connect(address).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose servers speak TLS alone over the network."""
    folder = tmp_path_factory.mktemp("tls")
    _certificate(folder / "certificate", ADDRESS)
    servers: dict[str, Any] = {"PrivatePostgres": SecuredPostgres, "PrivateRedis": SecuredRedis}
    with mock.patch.multiple(clusters, **servers), cluster(folder, "worker") as running:
        yield running


def test_api_and_worker_use_both_servers_and_check_their_certificate(secured: Cluster) -> None:
    url = secured.start_api(weights_folder(secured.folder / "weights"))
    job_id = secured.submit(
        long_recipe(training__total_images=400, training__sample_every_images=400), secured.register()
    )
    assert secured.wait_for(job_id, "succeeded", "failed").status == "succeeded"
    wait_until(lambda: _dependencies(url) == {"database": 1.0, "broker": 1.0}, "both answer the API")
    Hints(secured.redis.url).send()
    wait_until(lambda: secured.waiting_hints() == 0, "the worker takes the hint")


def _dependencies(url: str) -> dict[str, float]:
    told = re.findall(
        r'darkroom_dependency_up\{dependency="(\w+)"} (\S+)', httpx.get(f"{url}/metrics", trust_env=False).text
    )
    return {name: float(value) for name, value in told}


def _answer(database_url: str, redis_url: str) -> list[bool]:
    """Return whether PostgreSQL, Redis, and Redis for a hint can be used."""
    kombu.pools.reset()  # connections to the same address are shared, whatever their certificates
    try:
        Hints(redis_url).send()
        sent = True
    except REDIS_AWAY:
        sent = False
    return [Database(database_url).answers(), broker_answers(redis_url), sent]


def test_a_certificate_of_the_same_address_that_nobody_trusts_is_refused(secured: Cluster, tmp_path: Path) -> None:
    stranger = _certificate(tmp_path / "stranger", ADDRESS)
    assert _answer(secured.postgres.url, secured.redis.url) == [True, True, True]
    assert _answer(_url("DATABASE_URL", stranger), _url("REDIS_URL", stranger)) == [False, False, False]
    bare = [url.partition("?")[0] for url in (secured.postgres.url, secured.redis.url)]
    assert _answer(f"{bare[0]}?sslmode=verify-full&sslrootcert=system", bare[1]) == [False, False, False]


def test_a_certificate_of_another_address_is_refused(secured: Cluster) -> None:
    other = [url.replace(ADDRESS, OTHER_ADDRESS) for url in (secured.postgres.url, secured.redis.url)]
    assert _answer(*other) == [False, False, False]
    unchecked = other[0].replace("verify-full", "verify-ca"), f"{other[1]}&ssl_check_hostname=false"
    assert _answer(*unchecked) == [True, True, True]


def test_without_tls_nobody_gets_in(secured: Cluster) -> None:
    database = secured.postgres.url.partition("?")[0]
    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(f"{database}?sslmode=disable")
    plain = secured.redis.url.partition("?")[0].replace("rediss://", "redis://")
    assert not broker_answers(plain)
