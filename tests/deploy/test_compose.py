"""Laws of docker-compose.yml: services have limits, health checks and no rights; only the proxy can be reached."""

import os
import re
import stat
import subprocess
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from annotated_types import Le

from darkroom.app.embedded.process_commands import api_command
from darkroom.app.main import DESCRIPTORS
from darkroom.app.middleware.drain import LAST_ANSWERS_SECONDS
from darkroom.app.settings import Settings
from darkroom.store.roles import SERVICE
from darkroom.worker.settings import WorkerSettings
from tests.compose import DOCKERFILE, ROOT, SERVERS, WORKERS, compose, image_environment, seconds, services
from tests.documented import calls, documented

SERVICES = services()
ONE_SHOT = {"migrate"}
OWN = re.compile(r"darkroom(-proxy)?:(?P<version>[\d.]+)(-cpu)?")
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+(\.\d+)?(-[\w.-]+)?(@sha256:[0-9a-f]{64})?")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

every_service = pytest.mark.parametrize("name", SERVICES)
lasting_service = pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONE_SHOT))


def _strings(part: Any) -> list[str]:
    if isinstance(part, dict):
        return [text for one in part.values() for text in _strings(one)]
    if isinstance(part, list):
        return [text for one in part for text in _strings(one)]
    return [str(part)]


def _mounts(name: str) -> list[list[str]]:
    return [mount.split(":") for mount in SERVICES[name].get("volumes", [])]


@every_service
def test_an_image_is_one_of_this_version_or_pinned(name: str) -> None:
    image = SERVICES[name]["image"]
    own = OWN.fullmatch(image)
    if own:
        assert own["version"] == VERSION
        assert SERVICES[name]["pull_policy"] == "never"
    else:
        assert PINNED.fullmatch(image)
    inline = SERVICES[name].get("build", {}).get("dockerfile_inline", "")
    assert all(PINNED.fullmatch(base) for base in re.findall(r"^FROM (\S+)", inline, re.MULTILINE))


def test_the_image_is_made_of_a_pinned_one() -> None:
    (base,) = re.findall(r"^ARG BASE=(\S+)", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    assert PINNED.fullmatch(base)


def test_what_runs_on_is_chosen() -> None:
    with pytest.raises(KeyError, match="COMPOSE_PROFILES"):
        compose()
    for profile in ("cpu", "gpu"):
        chosen = compose(COMPOSE_PROFILES=profile)["services"]
        built = [one for one in chosen.values() if one["image"] == f"darkroom:{VERSION}-{profile}" and "build" in one]
        assert [one["profiles"] for one in built if one["profiles"] == [profile]] == [[profile]]


@lasting_service
def test_a_service_is_watched_and_started_again(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    kind, *test = service["healthcheck"]["test"]
    assert kind in ("CMD", "CMD-SHELL")
    assert test
    assert {"interval", "timeout"} <= service["healthcheck"].keys()
    assert seconds(service["stop_grace_period"]) >= 30


@pytest.mark.parametrize("name", ONE_SHOT)
def test_what_runs_to_its_end_is_waited_for(name: str) -> None:
    assert SERVICES[name]["restart"] == "no"
    waiting = [one for one in SERVICES.values() if name in one.get("depends_on", {})]
    assert len(waiting) == 6  # API and worker of both kinds, the reconciler, and the backup
    assert {one["depends_on"][name]["condition"] for one in waiting} == {"service_completed_successfully"}


@every_service
def test_a_service_has_limits(name: str) -> None:
    assert SERVICES[name]["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert SERVICES[name]["ulimits"] == {"nofile": DESCRIPTORS}
    assert SERVICES[name]["logging"]["options"].keys() == {"max-size", "max-file"}


@every_service
def test_a_service_has_no_rights(name: str) -> None:
    service = SERVICES[name]
    assert int(service["user"].split(":")[0]) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.keys() & {"cap_add", "privileged", "network_mode", "pid", "ipc", "devices", "group_add"}


@every_service
def test_a_service_writes_in_volumes_alone(name: str) -> None:
    volumes = compose(COMPOSE_PROFILES="cpu")["volumes"]
    for source, _, *options in _mounts(name):
        if source.startswith("."):
            assert options == ["ro"]
            assert (ROOT / source).exists()
        else:
            assert source in volumes


def test_the_proxy_alone_is_published_and_by_default_on_this_machine_alone() -> None:
    assert [name for name, one in SERVICES.items() if "ports" in one] == ["proxy"]
    assert not [name for name, one in SERVICES.items() if "expose" in one]
    assert [port.split(":")[0] for port in SERVICES["proxy"]["ports"]] == ["127.0.0.1"] * 3
    moved = compose(COMPOSE_PROFILES="cpu", DARKROOM_BIND="0.0.0.0")["services"]["proxy"]["ports"]
    assert [port.split(":")[0] for port in moved] == ["0.0.0.0"] * 3


def test_databases_and_workers_have_no_way_out() -> None:
    assert compose(COMPOSE_PROFILES="cpu")["networks"]["inner"] == {"internal": True}
    outer = {name for name, one in SERVICES.items() if "outer" in one["networks"]}
    assert outer == {"proxy", "grafana", "alertmanager", "api", "api-gpu"}
    assert set(SERVICES["proxy"]["networks"]) == {"outer"}


@every_service
def test_secrets_are_files_that_the_service_is_given(name: str) -> None:
    service = SERVICES[name]
    told = service.get("environment", {})
    for variable, value in told.items():
        if re.search("password|token|secret|key", variable, re.IGNORECASE):
            assert variable.endswith("_FILE")
        assert not re.search(r"//[^/@]*:[^/@]*@", str(value)), "a password in an address"
    where = _strings([told, service.get("command", []), service.get("healthcheck", {})])
    named = {secret for text in where for secret in re.findall(r"/run/secrets/(\w+)", text)}
    if name == "prometheus":
        named |= set(re.findall(r"/run/secrets/(\w+)", (ROOT / "deploy/prometheus/prometheus.yml").read_text()))
    assert named == set(service.get("secrets", []))


def test_every_secret_is_made_once_and_kept_from_others_on_the_machine(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make = [ROOT / "deploy" / "make-secrets", folder]
    subprocess.run(make, check=True)
    declared = compose(COMPOSE_PROFILES="cpu")["secrets"]
    assert {file.name for file in folder.iterdir()} == declared.keys() | {"autoscaler_password"}  # for Kubernetes
    assert {one["file"] for one in declared.values()} == {f"./secrets/{name}" for name in declared}
    made = {file.name: file.read_text() for file in folder.iterdir()}
    passwords = [value for name, value in made.items() if name.endswith("_password")]
    assert len(set(passwords)) == len(passwords) == 5
    assert all(re.fullmatch("[0-9a-f]{64}", one) for one in passwords)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o644}
    (folder / "metrics_token").write_text("a key")
    subprocess.run(make, check=True)
    assert {file.name: file.read_text() for file in folder.iterdir()} == made | {"metrics_token": "a key"}


def test_neither_git_nor_an_image_takes_secrets() -> None:
    kept = ["secrets/postgres_password", ".env", "darkroom.env"]
    ignored = subprocess.run(["git", "check-ignore", *kept], cwd=ROOT, check=False, capture_output=True, text=True)
    assert ignored.stdout.split() == kept
    first, *rest = [
        line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")
    ]
    assert first == "*"
    taken = [line.removeprefix("!") for line in rest if line.startswith("!")]
    assert all((ROOT / name).exists() for name in taken)
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    assert packages == ["darkroom*"]
    links = {path.readlink() for path in (ROOT / "darkroom").iterdir() if path.is_symlink()}
    assert links
    assert {"darkroom", *(link.name for link in links)} <= set(taken)


def test_what_is_stopped_has_the_time_that_it_may_take() -> None:
    command = api_command("127.0.0.1", 1)
    (longest,) = [one.le for one in Settings.model_fields["drain_seconds"].metadata if isinstance(one, Le)]
    after_the_drain = int(command[command.index("--timeout-graceful-shutdown") + 1]) + 2 * LAST_ANSWERS_SECONDS
    handing_back = WorkerSettings.model_fields["grace_seconds"].default
    for kind in ("", "-gpu"):
        assert seconds(SERVICES[f"api{kind}"]["stop_grace_period"]) >= longest + after_the_drain + 10
        assert seconds(SERVICES[f"worker{kind}"]["stop_grace_period"]) >= handing_back + 20


def test_the_proxy_gives_an_idle_connection_up_before_the_api_does() -> None:
    command = api_command("127.0.0.1", 1)
    kept = int(command[command.index("--timeout-keep-alive") + 1])
    (by_proxy,) = re.findall(r"keepalive (\d+)s", (ROOT / "deploy/caddy/Caddyfile").read_text())
    assert int(by_proxy) < kept
    assert f"an idle connection for {kept} s" in (ROOT / "docs/deploy.md").read_text()


@pytest.mark.parametrize(("name", "setting"), [("api", "DARKROOM_DEVICE"), ("worker", "DARKROOM_WORKER_DEVICE")])
def test_a_service_on_a_gpu_is_the_same_but_for_its_device(name: str, setting: str) -> None:
    cpu, gpu = SERVICES[name], SERVICES[f"{name}-gpu"]
    assert (cpu["profiles"], gpu["profiles"]) == (["cpu"], ["gpu"])
    cores = {"OMP_NUM_THREADS": "4", "TORCHINDUCTOR_COMPILE_THREADS": "4"}
    assert cpu["environment"] | {setting: "cuda"} | cores == gpu["environment"]
    assert cpu["environment"][setting] == "cpu"
    assert set(cpu["networks"]) == gpu["networks"].keys()
    assert all(network == {"aliases": [name]} for network in gpu["networks"].values())
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert "gpu" in device["capabilities"]
    assert gpu["deploy"]["resources"]["limits"]["cpus"] == "4"
    cpus = f"{name.upper()}_CPUS"
    more = compose(COMPOSE_PROFILES="gpu", **{cpus: "16"})["services"][f"{name}-gpu"]
    assert more["deploy"]["resources"]["limits"]["cpus"] == "16"
    assert {more["environment"][core] for core in cores} == {"16"}
    differ = {"profiles", "environment", "networks", "deploy", "build", "shm_size"}
    assert {key: cpu[key] for key in cpu.keys() - differ} == {key: gpu[key] for key in gpu.keys() - differ}


@pytest.mark.parametrize(
    ("lists", "file", "placed"),
    [
        (["0,1,2"], "docker-compose.yml", {"api-gpu": [["0"], ["1"], ["2"]], "worker-gpu": [["0"], ["1"], ["2"]]}),
        (["0,1", "2,3+4+5"], "docker-compose.yml", {"api-gpu": [["0"], ["1"]], "worker-gpu": [["2"], ["3", "4", "5"]]}),
        (["-", "45,6"], "docker-compose.workers.yml", {"worker-gpu": [["45"], ["6"]]}),
    ],
)
def test_there_is_a_service_for_each_gpu(lists: list[str], file: str, placed: dict[str, list[list[str]]]) -> None:
    done = subprocess.run([ROOT / "deploy/make-gpus", *lists], check=True, capture_output=True, text=True)
    written, names = compose(done.stdout)["services"], set()
    for base, places in placed.items():
        for number, gpus in enumerate(places, 1):
            name = f"{base}-{number}" if number > 1 else base
            names.add(name)
            (shipped,) = SERVICES[base]["deploy"]["resources"]["reservations"]["devices"]
            expected: dict[str, Any] = {
                "deploy": {"resources": {"reservations": {"devices": [shipped | {"device_ids": gpus}]}}}
            }
            if number > 1:
                expected |= {"extends": {"file": file, "service": base}, "build": None}
            if len(gpus) > 1:
                expected["environment"] = {"DARKROOM_WORKER_DEVICES": len(gpus)}
            assert written[name] == expected
    assert written.keys() == names
    # a list of devices would else be joined to the shipped one
    assert done.stdout.count("devices: !override [") == len(names)


def test_a_host_of_workers_runs_them_as_the_first_host_does_and_checks_its_servers() -> None:
    told = compose(WORKERS, COMPOSE_PROFILES="gpu", DARKROOM_SERVERS="db.example")
    assert told["services"].keys() == {"worker", "worker-gpu"}
    for name, service in told["services"].items():
        assert service["extends"] == {"file": "docker-compose.yml", "service": name}
        assert service["networks"] == ["outer"]
        environment = SERVICES[name]["environment"] | service["environment"]
        assert environment["DATABASE_URL"] == (
            "postgresql://darkroom_service@db.example:5432/darkroom"
            "?sslmode=verify-full&sslrootcert=/run/secrets/servers_certificate"
        )
        assert environment["REDIS_URL"] == "rediss://db.example:6380/0?ssl_ca_certs=/run/secrets/servers_certificate"
        assert {*SERVICES[name]["secrets"], *service["secrets"]} == told["secrets"].keys()
    built = {
        name: compose(COMPOSE_PROFILES="cpu")["services"][f"api{kind}"]["build"]
        for name, kind in (("worker", ""), ("worker-gpu", "-gpu"))
    }
    assert {name: service["build"] for name, service in told["services"].items()} == built


def test_published_servers_want_tls_and_an_address() -> None:
    with pytest.raises(KeyError, match="DARKROOM_SERVERS_BIND"):
        compose(SERVERS)
    published = compose(SERVERS, DARKROOM_SERVERS_BIND="192.0.2.7")["services"]
    assert {name: one["ports"] for name, one in published.items()} == {
        "postgres": ["192.0.2.7:5432:5432"],
        "redis": ["192.0.2.7:6380:6380"],
    }
    rules = (ROOT / "deploy/compose/pg_hba.conf").read_text(encoding="utf-8").splitlines()
    assert [rule.split()[0] for rule in rules if not rule.startswith("#")] == ["local", "hostssl"]
    # what this host's own services use, with the same password
    own, more = SERVICES["redis"]["command"][-1].strip(), published["redis"]["command"][-1]
    assert more.startswith(own)


def test_the_migration_alone_has_the_account_that_owns_the_tables() -> None:
    told = {name: one.get("environment", {}) for name, one in SERVICES.items()}
    users = {name: one["DATABASE_URL"] for name, one in told.items() if "DATABASE_URL" in one}
    assert users.keys() >= {"api", "worker", "reconciler", "api-gpu", "worker-gpu"}
    assert {name for name, url in users.items() if "//darkroom@" in url} == {"migrate"}
    assert {name for name, url in users.items() if f"//{SERVICE}@" in url} == users.keys() - {"migrate"}
    given = {name for name, one in SERVICES.items() if "postgres_password" in one.get("secrets", [])}
    assert given == {"migrate", "postgres", "backup"}  # a dump reads every table


def test_addresses_are_those_of_services() -> None:
    environment = SERVICES["api"]["environment"]
    assert environment["DATABASE_URL"].split("@")[1] == "postgres:5432/darkroom"
    assert environment["REDIS_URL"] == "redis://redis:6379/0"
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    targets = {(one["names"][0], one["port"]) for job in scraped for one in job["dns_sd_configs"]}
    api = SERVICES["api"]["command"]
    assert targets == {
        ("api", int(api[api.index("--port") + 1])),
        ("worker", SERVICES["worker"]["environment"]["DARKROOM_METRICS_PORT"]),
    }


def test_the_image_keeps_what_is_written_in_its_volume() -> None:
    environment = image_environment()
    for name in ("api", "worker"):
        ((_, folder),) = _mounts(name)
        for setting in ("TMPDIR", "DARKROOM_STATE_FOLDER", "DARKROOM_CACHE_FOLDER"):
            assert Path(environment[setting]).is_relative_to(folder)


def _of_several_gpus() -> dict[str, dict[str, Any]]:
    """Return the services of a machine with three GPUs, those of both profiles."""
    made = subprocess.run([ROOT / "deploy/make-gpus", "0,1,2"], check=True, capture_output=True, text=True).stdout
    added = compose(made)["services"]
    return SERVICES | {name: SERVICES[one.get("extends", {"service": name})["service"]] for name, one in added.items()}


def _docker(script: str, names: Iterable[str], folder: Path) -> list[list[str]]:
    """Run a script, and return the calls of `docker`, which knows these services, other than questions about them."""
    (folder / "services").write_text("\n".join(names))
    answers = 'case "$*" in *"config --services") cat services ;; *"ps --quiet"*) echo old-one ;; esac'
    made = calls(script, folder, {"docker": answers, "git": "echo 3f2a91c"})
    return [call for name, *call in made if name == "docker" and "config" not in call]


def _running(profile: str, services: Mapping[str, Any]) -> dict[str, Any]:
    """Return the services that a profile has."""
    return {name: one for name, one in services.items() if profile in one.get("profiles", [profile])}


def test_the_documented_restore_stops_everybody_who_uses_the_database(tmp_path: Path) -> None:
    _, restore = documented("Back-up")
    present = _running("gpu", _of_several_gpus())
    stop, replace, migrate, start = _docker(restore, present, tmp_path)
    using = {name for name, one in present.items() if "DATABASE_URL" in one.get("environment", {})}
    assert stop[:2] == ["compose", "stop"]
    assert set(stop[2:]) == using - ONE_SHOT
    assert {"api-gpu-3", "worker-gpu-3", "reconciler"} <= set(stop)
    script = Path(replace[3]).relative_to("/etc/darkroom")
    assert (ROOT / "deploy/postgres" / script).exists()
    assert migrate[-1] == "migrate"
    assert start[:2] == ["compose", "up"]


@pytest.mark.parametrize("gpus", [False, True])
def test_the_documented_upgrade_renews_everything_in_order(gpus: bool, tmp_path: Path) -> None:
    script, of_gpus = documented("Upgrade")
    if gpus:
        before, first, after = script.partition("old=")
        script = before + of_gpus + "".join((first + after).splitlines(keepends=True)[4:])
    present = _running("gpu" if gpus else "cpu", _of_several_gpus())
    made = _docker(script, present, tmp_path)
    build, migrate = made.index(["compose", "build", "--pull"]), made.index(["compose", "run", "--rm", "migrate"])
    ups = {number: call for number, call in enumerate(made) if call[:2] == ["compose", "up"]}
    assert build < migrate < min(ups)
    renewed = [present.keys() & call for call in ups.values()]
    assert renewed[-1] == set()  # whatever else has changed
    apis = [names & {name for name in present if name.startswith("api")} for names in renewed]
    if gpus:
        assert apis[:3] == [{"api-gpu"}, {"api-gpu-2"}, {"api-gpu-3"}]  # the others serve meanwhile
    else:
        stop = next(number for number, call in enumerate(made) if call[0] == "stop")
        second, *_ = ups
        assert second < stop
        assert "api=2" in made[second]
        assert made[stop][-1] == "old-one"
        assert int(made[stop][2]) == seconds(SERVICES["api"]["stop_grace_period"])
    own = {name for name, one in present.items() if one["image"].startswith("darkroom:")}
    assert set().union(*renewed) >= own - ONE_SHOT
    (anew,) = [present.keys() & call for call in ups.values() if "--force-recreate" in call]
    configured = {name for name in SERVICES if any(source.startswith("./deploy") for source, *_ in _mounts(name))}
    assert configured == anew


def test_a_build_has_a_tag_of_its_own() -> None:
    tagged = compose(COMPOSE_PROFILES="gpu", DARKROOM_TAG="3f2a91c")["services"].values()
    own = {one["image"] for one in tagged if one["image"].startswith("darkroom")}
    assert own == {"darkroom:3f2a91c-gpu", "darkroom-proxy:3f2a91c"}


@pytest.mark.parametrize(
    "lists",
    [[",,"], ["cpu"], ["-"], ["-", "-"], ["0", "-"], ["0+1"], ["0", "1++2"], ["0,", "1"], ["0", "1", "2"], ['a"b']],
)
def test_a_list_that_names_no_gpus_makes_no_services(lists: list[str]) -> None:
    done = subprocess.run([ROOT / "deploy/make-gpus", *lists], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "deploy/make-gpus: " in done.stderr


@pytest.mark.parametrize(
    ("name", "told"),
    [("2001:db8::7", "IP Address:2001:DB8:0:0:0:0:0:7"), ("192.0.2.7", "IP Address:192.0.2.7"), ("db.x", "DNS:db.x")],
)
def test_a_certificate_is_for_the_name_or_the_address(name: str, told: str, tmp_path: Path) -> None:
    _certificate(tmp_path, name).check_returncode()
    command = ["openssl", "x509", "-in", tmp_path / "servers_certificate", "-noout", "-ext", "subjectAltName"]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1].strip() == told


@pytest.mark.parametrize("name", ["--help", "https://db.x", "[::1]", "999.1.1.1", "192.0.2.7:5432", "a,b", "föö"])
def test_what_is_no_name_of_a_host_leaves_the_old_certificate(name: str, tmp_path: Path) -> None:
    _certificate(tmp_path, "db.x").check_returncode()
    before = (tmp_path / "servers_certificate").read_bytes(), (tmp_path / "servers_key").read_bytes()
    done = _certificate(tmp_path, name)
    assert done.returncode != 0
    assert "deploy/make-certificate: " in done.stderr
    assert before == ((tmp_path / "servers_certificate").read_bytes(), (tmp_path / "servers_key").read_bytes())


def _certificate(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    command, environment = [ROOT / "deploy/make-certificate", name], os.environ | {"SECRETS_FOLDER": str(folder)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
