"""Laws of the manifests: they are complete and valid, pods have no rights and run what docker-compose.yml runs."""

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from sqlalchemy import text

from bench.reference import OPERATOR_RULES, operator_rules
from darkroom.store.database import Database, parse_url
from darkroom.store.job_repository import submit_job
from darkroom.store.roles import AUTOSCALER, SERVICE, grant_roles
from tests.compose import ROOT, compose, image_environment, seconds, services
from tests.documented import calls, documented

Manifest = dict[str, Any]

KUBERNETES = ROOT / "deploy" / "kubernetes"
VARIANTS = {"base": "cpu", "gpu": "gpu"}
VERSION = "1.30"
"""The oldest version with every feature that the manifests use; the newest of them is the sleep of preStop."""

PODS = ("api", "worker", "reconciler", "postgres", "redis", "migrate", "backup")
OWN = ("api", "worker", "reconciler")
LASTING = (*OWN, "postgres", "redis")

every_variant = pytest.mark.parametrize("variant", VARIANTS)
every_pod = pytest.mark.parametrize("name", PODS)


@cache
def _manifests(variant: str) -> list[Manifest]:
    return _rendered(KUBERNETES / variant)


def _rendered(folder: Path) -> list[Manifest]:
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", folder], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def _find(variant: str, kind: str, name: str) -> Manifest:
    (found,) = [
        one
        for one in _manifests(variant)
        if one["kind"] == kind and re.sub("-[a-z0-9]{10}$", "", one["metadata"]["name"]) == name
    ]
    return found


def _workload(variant: str, name: str) -> Manifest:
    kind = {"migrate": "Job", "backup": "CronJob", "postgres": "StatefulSet", "redis": "StatefulSet"}.get(
        name, "Deployment"
    )
    return _find(variant, kind, name)


def _pod(variant: str, name: str) -> Manifest:
    found: Manifest = _template(variant, name)["spec"]
    return found


def _template(variant: str, name: str) -> Manifest:
    spec: Manifest = _workload(variant, name)["spec"]
    found: Manifest = (spec["jobTemplate"]["spec"] if "jobTemplate" in spec else spec)["template"]
    return found


def _containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def _environment(container: Manifest) -> dict[str, str]:
    return {one["name"]: one["value"] for one in container.get("env", [])}


@every_variant
def test_every_manifest_is_valid(variant: str) -> None:
    known = [one for one in _manifests(variant) if not one["apiVersion"].startswith(("keda.sh/", "traefik.io/"))]
    for manifest in known:
        kubernetes_validate.validate(manifest, VERSION, strict=True)
    assert {one["kind"] for one in _manifests(variant)} - {one["kind"] for one in known} == {
        "Middleware",
        "ScaledObject",
        "TriggerAuthentication",
    }


def test_the_operator_scrapes_what_prometheus_of_compose_scrapes() -> None:
    shipped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    jobs = {job["job_name"]: job for job in shipped["scrape_configs"]}
    monitors = {one["metadata"]["name"]: one for one in _manifests("monitoring") if one["kind"] == "PodMonitor"}
    assert monitors.keys() == jobs.keys()
    admitted = {one["metadata"]["name"]: one["spec"] for one in _manifests("base") if one["kind"] == "NetworkPolicy"}
    for name, monitor in monitors.items():
        assert monitor["metadata"]["namespace"] == _namespace("base")
        pod = _workload("base", name)["spec"]["template"]
        assert monitor["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        assert pod["metadata"]["labels"][monitor["spec"]["jobLabel"]] == name  # the rules say job="api"
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
        (found,) = jobs[name]["dns_sd_configs"]
        assert ports[endpoint["port"]] == found["port"]
        assert endpoint["interval"] == shipped["global"]["scrape_interval"]
        assert ("authorization" in endpoint) == ("authorization" in jobs[name])
        (rule,) = admitted["api" if name == "api" else "worker-metrics"]["ingress"]
        assert {"port": endpoint["port"]} in rule["ports"]
        namespaces = [one["namespaceSelector"]["matchLabels"] for one in rule["from"]]
        assert {"kubernetes.io/metadata.name": "monitoring"} in namespaces


def test_the_operator_has_the_shipped_rules() -> None:
    assert OPERATOR_RULES.read_text(encoding="utf-8") == operator_rules(), "run `make docs`"
    (rules,) = [one for one in _manifests("monitoring") if one["kind"] == "PrometheusRule"]
    assert rules["spec"] == yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))


def test_grafanas_sidecars_find_the_shipped_dashboard_and_its_source() -> None:
    maps = {one["metadata"]["name"]: one for one in _manifests("monitoring") if one["kind"] == "ConfigMap"}
    dashboard, source = maps["darkroom-dashboard"], maps["darkroom-datasource"]
    for one in maps.values():
        kubernetes_validate.validate(one, VERSION, strict=True)
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert source["metadata"]["labels"]["grafana_datasource"] == "1"
    shipped = (ROOT / "deploy/grafana/dashboards/darkroom.json").read_text(encoding="utf-8")
    assert dashboard["data"] == {"darkroom.json": shipped}
    (own,) = yaml.safe_load(source["data"]["darkroom.yaml"])["datasources"]
    provisioned = (ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text(encoding="utf-8")
    (composed,) = yaml.safe_load(provisioned)["datasources"]
    differ = {"name", "url", "isDefault"}
    assert {key: own[key] for key in own.keys() - differ} == {key: composed[key] for key in composed.keys() - differ}
    assert set(re.findall(r'"uid": "([\w-]*prometheus)"', shipped)) == {own["uid"]}


def test_an_invalid_manifest_is_noticed() -> None:
    manifest = yaml.safe_load(yaml.safe_dump(_workload("base", "api")))
    manifest["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSION, strict=True)


@every_variant
@every_pod
def test_a_pod_has_no_rights_and_limits(variant: str, name: str) -> None:
    pod = _pod(variant, name)
    account = pod["securityContext"]
    assert account["runAsNonRoot"] is True
    assert account["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in _containers(pod):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        claimed = {
            claim["metadata"]["name"] for claim in _workload(variant, name)["spec"].get("volumeClaimTemplates", [])
        }
        assert mounted <= {volume["name"] for volume in pod["volumes"]} | claimed


@every_variant
@pytest.mark.parametrize("name", LASTING)
def test_a_pod_runs_what_compose_runs(variant: str, name: str) -> None:
    suffix = "-gpu" if variant == "gpu" and name in ("api", "worker") else ""
    service = compose(COMPOSE_PROFILES=VARIANTS[variant])["services"][f"{name}{suffix}"]
    pod = _pod(variant, name)
    (container,) = pod["containers"]
    assert container["image"] == service["image"]
    # both leave the same settings to the image
    run = [*container.get("command", ()), *container.get("args", ())]
    assert run == (service.get("command") or [])
    assert pod["terminationGracePeriodSeconds"] >= seconds(service["stop_grace_period"])
    account = pod["securityContext"]
    assert service["user"] == f"{account['runAsUser']}:{account['runAsGroup']}"
    told = {key: str(value) for key, value in service.get("environment", {}).items()}
    servers = _find(variant, "ConfigMap", "servers")["data"] if "envFrom" in container else {}
    assert _environment(container) | servers == told
    (secrets,) = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "secrets"]
    assert secrets["secretName"] == "darkroom"
    assert (
        [item["path"] for item in secrets["items"]] == [item["key"] for item in secrets["items"]] == service["secrets"]
    )


@every_variant
@pytest.mark.parametrize("name", OWN)
def test_the_tables_are_there_before_a_process_is(variant: str, name: str) -> None:
    pod = _pod(variant, name)
    (tables,), (container,) = pod["initContainers"], pod["containers"]
    assert tables["command"] == [*services()["migrate"]["command"], "--check"]
    assert (tables["image"], tables["envFrom"]) == (container["image"], container["envFrom"])
    assert "env" not in tables


@every_variant
def test_the_migration_is_one_job_and_alone_has_the_owner_s_password(variant: str) -> None:
    pods = {name: _pod(variant, name) for name in PODS}
    given = {name for name, pod in pods.items() if "postgres_password" in str(pod["volumes"])}
    assert given == {"migrate", "postgres", "backup"}  # a dump reads every table
    (migrate,) = pods["migrate"]["containers"]
    roles = {"DARKROOM_AUTOSCALER_PASSWORD_FILE": "/run/secrets/autoscaler_password"}
    assert _environment(migrate) == services()["migrate"]["environment"] | roles
    assert migrate["command"] == services()["migrate"]["command"]
    servers = _find(variant, "ConfigMap", "servers")["data"] | _environment(migrate)
    (secrets,) = [volume["secret"]["items"] for volume in pods["migrate"]["volumes"] if "secret" in volume]
    named = {value for key, value in servers.items() if key.endswith("_FILE")}
    assert named == {f"/run/secrets/{item['path']}" for item in secrets}


@pytest.mark.parametrize("name", OWN)
def test_what_a_process_writes_is_in_a_volume(name: str) -> None:
    mounts = [Path(mount["mountPath"]) for mount in _pod("base", name)["containers"][0]["volumeMounts"]]
    for setting in ("TMPDIR", "DARKROOM_STATE_FOLDER", "DARKROOM_CACHE_FOLDER", "MPLCONFIGDIR"):
        assert any(Path(image_environment()[setting]).is_relative_to(mount) for mount in mounts), setting


@pytest.mark.parametrize("name", LASTING)
def test_a_pod_is_watched(name: str) -> None:
    (container,) = _pod("base", name)["containers"]
    assert "livenessProbe" in container
    assert "readinessProbe" in container or name == "reconciler"  # nobody sends it requests
    ports = {port["name"] for port in container.get("ports", [])}
    probes = [probe for key, probe in container.items() if key.endswith("Probe")]
    assert {probe["httpGet"]["port"] for probe in probes if "httpGet" in probe} <= ports


def test_whom_services_budgets_and_policies_mean_exists() -> None:
    labels = {name: _template("base", name)["metadata"]["labels"] for name in PODS}
    for manifest in _manifests("base"):
        if manifest["kind"] == "Service" and "selector" in manifest["spec"]:
            name = manifest["metadata"]["name"]
            assert manifest["spec"]["selector"].items() <= labels[name].items()
            ports = {port["name"] for port in _pod("base", name)["containers"][0]["ports"]}
            assert {port["targetPort"] for port in manifest["spec"]["ports"]} <= ports
        if manifest["kind"] == "PodDisruptionBudget":
            assert manifest["spec"]["selector"]["matchLabels"].items() <= labels[manifest["metadata"]["name"]].items()
    policies = {one["metadata"]["name"]: one["spec"] for one in _manifests("base") if one["kind"] == "NetworkPolicy"}
    assert policies["nobody"] == {"podSelector": {}, "policyTypes": ["Ingress"]}
    (users,) = policies["servers"]["ingress"][0]["from"]
    using = {name for name in PODS if users["podSelector"]["matchLabels"].items() <= labels[name].items()}
    assert using == {*OWN, "migrate", "backup"}


@every_variant
def test_nobody_outside_reaches_the_prometheus_metrics(variant: str) -> None:
    """By Traefik's own default, a path of a service without pods is ignored, so this service must have pods."""
    everything, metrics = (_find(variant, "Ingress", name)["spec"] for name in ("api", "metrics"))
    assert everything["ingressClassName"] == "traefik"
    (path,), (hidden,) = (one["rules"][0]["http"]["paths"] for one in (everything, metrics))
    host = everything["rules"][0]["host"]  # the same host and TLS: only then the longer path has the longer rule
    assert metrics == everything | {"rules": [{"host": host, "http": {"paths": [hidden]}}]}
    assert (path["path"], hidden["path"]) == ("/", "/metrics")
    assert path["backend"] == hidden["backend"]
    assert _find(variant, "Service", hidden["backend"]["service"]["name"])["spec"]["selector"]
    assert _find(variant, "Middleware", "nobody")["spec"] == {"ipAllowList": {"sourceRange": ["255.255.255.255/32"]}}
    admitted = _find(variant, "NetworkPolicy", "api")["spec"]["ingress"][0]["from"]
    assert {"kubernetes.io/metadata.name": "traefik"} in [one["namespaceSelector"]["matchLabels"] for one in admitted]
    for ingress, middleware in (("api", "at-once"), ("metrics", "nobody")):
        named = _find(variant, "Ingress", ingress)["metadata"]["annotations"]
        expected = f"{_namespace(variant)}-{middleware}@kubernetescrd"
        assert named["traefik.ingress.kubernetes.io/router.middlewares"] == expected
        assert _find(variant, "Middleware", middleware)


def test_redis_has_the_configuration_that_compose_mounts() -> None:
    name = next(volume["configMap"]["name"] for volume in _pod("base", "redis")["volumes"] if "configMap" in volume)
    configuration = _find("base", "ConfigMap", "redis")
    assert configuration["metadata"]["name"] == name
    assert configuration["data"] == {"redis.conf": (ROOT / "deploy" / "redis" / "redis.conf").read_text()}


@every_variant
def test_the_database_is_backed_up_as_compose_does(variant: str) -> None:
    (container,) = _pod(variant, "backup")["containers"]
    composed = services()["backup"]
    _, *arguments = composed["command"]  # Compose's own runs the script every day
    assert container["command"] == ["/etc/darkroom/backup", *arguments]
    assert (container["image"], _environment(container)) == (composed["image"], composed["environment"])
    volumes = {volume["name"]: volume for volume in _pod(variant, "backup")["volumes"]}
    assert _find(variant, "PersistentVolumeClaim", volumes["dumps"]["persistentVolumeClaim"]["claimName"])
    scripts = _find(variant, "ConfigMap", "postgres")
    assert volumes["scripts"]["configMap"] == {"name": scripts["metadata"]["name"], "defaultMode": 0o555}
    folder = ROOT / "deploy" / "postgres"
    assert scripts["data"] == {name: (folder / name).read_text() for name in ("backup", "replace", "restore")}


def test_the_documented_restore_is_a_job_like_the_backup(tmp_path: Path) -> None:
    """KEDA, API and reconciler rest meanwhile, and the job has all that the cron job's have but its command."""
    (script,) = documented("Restore on a cluster")
    cron = _workload("base", "backup")
    made = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "restore"}}
    made |= {"spec": cron["spec"]["jobTemplate"]["spec"]}  # as `kubectl create job --from` makes it
    (tmp_path / "made.json").write_text(json.dumps(made))
    patches = Path(sys.executable).with_name("kubectl")
    does = f'case "$*" in *--from*) cat made.json ;; patch*) exec {patches} "$@" ;; create*) cat > created.json ;; esac'
    order = [call[1:] for call in calls(script, tmp_path, {"kubectl": does})]
    verbs = ["config", "annotate", "scale", "wait", "create", "wait", "delete", "apply", "annotate"]
    assert [call[0] for call in order if call[0] in verbs and "--filename" not in call] == verbs
    assert order[1][-1] == "autoscaling.keda.sh/paused-replicas=0"
    assert order[-1][-1] == "autoscaling.keda.sh/paused-replicas-"
    assert order[2] == ["scale", "deployment", "api", "reconciler", "--replicas", "0"]
    assert all(_workload("base", name)["spec"]["replicas"] >= 1 for name in ("api", "reconciler"))  # applied again
    (selected,) = re.findall(r"name in \((.*)\)", " ".join(order[3]))
    assert set(selected.split(", ")) == set(OWN)
    longest = max(_pod("base", name)["terminationGracePeriodSeconds"] for name in OWN)
    assert seconds(order[3][order[3].index("--timeout") + 1]) > longest

    restore = json.loads((tmp_path / "created.json").read_text())
    kubernetes_validate.validate(restore, VERSION, strict=True)
    (container,) = restore["spec"]["template"]["spec"]["containers"]
    program, dump = container["command"]
    assert (ROOT / "deploy/postgres" / Path(program).name).exists()
    folders = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(Path(program).parent), str(Path(dump).parent)} <= folders
    container["command"] = _pod("base", "backup")["containers"][0]["command"]
    assert restore == made


@every_variant
def test_workers_are_as_many_as_unfinished_jobs_that_they_can_run(variant: str, database: Database) -> None:
    scaled = _find(variant, "ScaledObject", "worker")["spec"]
    assert scaled["scaleTargetRef"] == {"name": "worker"}
    assert "replicas" not in _workload(variant, "worker")["spec"]
    (trigger,) = scaled["triggers"]
    assert (trigger["type"], trigger["metadata"]["targetQueryValue"]) == ("postgresql", "1")
    url = _find(variant, "ConfigMap", "servers")["data"]["DATABASE_URL"]
    address = {key: trigger["metadata"][key] for key in ("userName", "host", "port", "dbName")}
    assert url == "postgresql://{}@postgres:{port}/{dbName}".format(SERVICE, **address)
    assert address["userName"] == AUTOSCALER
    assert address["host"] == f"postgres.{_namespace(variant)}.svc"
    key = _find(variant, "TriggerAuthentication", trigger["authenticationRef"]["name"])["spec"]["secretTargetRef"]
    assert key == [{"parameter": "password", "name": "darkroom", "key": "autoscaler_password"}]

    query = trigger["metadata"]["query"]
    address_of_owner = database.engine.url.render_as_string(hide_password=False)
    grant_roles(address_of_owner, {AUTOSCALER: "secret"})
    autoscaler = Database(parse_url(address_of_owner).set(username=AUTOSCALER).render_as_string(hide_password=False))
    assert _count(autoscaler, query) == 0
    for device in ("auto", "cpu", "cpu", "cuda"):
        with database.session() as session:
            submit_job(session, kind="train", configuration={}, total_images=1, model_name="x", device=device)
    assert _count(autoscaler, query) == {"base": 3, "gpu": 2}[variant]
    with database.session() as session:
        session.execute(text("UPDATE jobs SET status = 'succeeded', finished_at = now()"))
    assert _count(autoscaler, query) == 0
    autoscaler.dispose()


def _namespace(variant: str) -> str:
    """Return the namespace of the manifests."""
    (name,) = {one["metadata"]["namespace"] for one in _manifests(variant) if one["kind"] != "Namespace"}
    return str(name)


def _count(database: Database, query: str) -> int:
    with database.session() as session:
        return int(session.execute(text(query)).scalar_one())


def _overlay(folder: Path, variant: str, **more: Any) -> list[Manifest]:
    """Render an overlay on a variant, as docs/deploy.md lets a site write one."""
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"resources": [_from(folder, variant)], **more}))
    return _rendered(folder)


def _from(folder: Path, name: str) -> str:
    return os.path.relpath(KUBERNETES / name, folder)


@every_variant
def test_compiled_kernels_can_be_on_a_claim(variant: str, tmp_path: Path) -> None:
    plain = {(one["kind"], one["metadata"]["name"]): one for one in _manifests(variant)}
    overlay = _overlay(tmp_path, variant, components=[_from(tmp_path, "compile-caches")])
    kept = {(one["kind"], one["metadata"]["name"]): one for one in overlay}
    claim = ("PersistentVolumeClaim", "compile-caches")
    assert kept.keys() - plain.keys() == {claim}
    assert kept[claim]["spec"]["accessModes"] == ["ReadWriteMany"]  # pods of several nodes
    assert kept[claim]["metadata"]["namespace"] == _namespace(variant)
    changed = {name for name, manifest in plain.items() if kept[name] != manifest}
    assert changed == {("Deployment", "api"), ("Deployment", "worker")}
    for name in [claim, *changed]:
        kubernetes_validate.validate(kept[name], VERSION, strict=True)
    for name in changed:
        pod = kept[name]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        folder = _environment(container)["TORCHINDUCTOR_CACHE_DIR"]
        assert {"name": "compile-caches", "mountPath": folder} in container["volumeMounts"]
        assert {"name": "compile-caches", "persistentVolumeClaim": {"claimName": "compile-caches"}} in pod["volumes"]
        assert _environment(container).items() > _environment(_pod(variant, name[1])["containers"][0]).items()


def test_the_documented_overlay_moves_every_entrance_to_the_site_s_host(tmp_path: Path) -> None:
    page = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    written = yaml.safe_load(page.partition("## Kubernetes\n")[2].partition("```yaml\n")[2].partition("```")[0])
    entrances = [
        one["spec"] for one in _overlay(tmp_path, "base", patches=written["patches"]) if one["kind"] == "Ingress"
    ]
    assert len(entrances) == 2
    for spec in entrances:
        assert [rule["host"] for rule in spec["rules"]] == spec["tls"][0]["hosts"] == ["lab.example"]


def test_a_gpu_is_asked_for_where_one_is_used() -> None:
    for name in PODS:
        limits = _pod("gpu", name)["containers"][0]["resources"]["limits"]
        assert limits.get("nvidia.com/gpu") == (1 if name in ("api", "worker") else None)


def test_a_rollout_needs_no_spare_gpu() -> None:
    for name in ("api", "worker"):
        assert _workload("gpu", name)["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}
        (toleration,) = _pod("gpu", name)["tolerations"]
        assert toleration == {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert _workload("base", "api")["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
