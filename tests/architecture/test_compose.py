"""docker-compose.yml, its images and what it mounts agree with the services, without an engine."""

import importlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic_settings import BaseSettings
from trimtab.cli.broker_settings import SETTINGS, replication
from trimtab.cli.cluster.keys import PRIVATE, PUBLIC, KeyFiles
from trimtab.cli.cluster.programs import KAFKA_PORT, ONE_THREAD, SERVICES, TRACE_SHARE, ZIPKIN_PORT
from trimtab.contracts import telemetry
from trimtab.contracts.specs import Metric
from trimtab.runtime.metrics import label_name, prometheus_name
from trimtab.testing.dashboards import queries

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: Mapping[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
CONTAINERS: Mapping[str, Mapping[str, Any]] = COMPOSE["services"]
PROMETHEUS: Mapping[str, Any] = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yml").read_text())
ALERTS = [
    rule
    for file in PROMETHEUS["rule_files"]
    for group in yaml.safe_load((ROOT / "infra/prometheus" / file).read_text())["groups"]
    for rule in group["rules"]
]
ONE_SHOT = {"setup"}
KAFKA_ONLY = {"process.roles", "controller.listener.names"}


def test_the_seven_services_and_what_they_need_are_there() -> None:
    assert set(SERVICES) | {"kafka", "postgres", "s3"} | ONE_SHOT <= CONTAINERS.keys()
    observed = {name for name, container in CONTAINERS.items() if container.get("profiles") == ["observability"]}
    assert observed == {"collector", "zipkin", "prometheus", "grafana"}
    assert CONTAINERS["kafka"]["image"] == "apache/kafka:4.2.2"
    assert CONTAINERS["postgres"]["image"].startswith("postgres:17")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_runs_its_module_from_the_one_image_behind_its_usual_port(service: str) -> None:
    container = CONTAINERS[service]
    assert container["command"] == ["python", "-m", f"trimtab.{service.replace('-', '_')}"]
    assert container["image"] == CONTAINERS["setup"]["image"]
    inside = container["environment"]["TRIMTAB_HTTP__PORT"]
    assert container["ports"] == [f"127.0.0.1:{SERVICES[service]}:{inside}"]
    assert container["init"] is True


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_starts_after_what_it_needs_is_healthy(service: str) -> None:
    needs = CONTAINERS[service]["depends_on"]
    assert needs["kafka"] == {"condition": "service_healthy"}
    assert needs["setup"] == {"condition": "service_completed_successfully"}
    environment = CONTAINERS[service]["environment"]
    assert ("s3" in needs) == ("TRIMTAB_STORE__URL" in environment)
    assert ("postgres" in needs) == ("postgres" in str(environment.get("TRIMTAB_REGISTRY__DATABASE_URL")))
    for needed, condition in needs.items():
        if condition == {"condition": "service_healthy"}:
            assert "test" in CONTAINERS[needed]["healthcheck"]


def settings_of(service: str) -> type[BaseSettings]:
    module = importlib.import_module(f"trimtab.{service.replace('-', '_')}.settings")
    found: type[BaseSettings] = module.Settings
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_given_settings_that_it_has_and_all_that_it_needs(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(service)
    given = {name: value for name, value in CONTAINERS[service]["environment"].items() if name.startswith("TRIMTAB_")}
    for name in given:
        assert takes(settings, name), f"{service} has no setting {name}"
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        if value is not None:
            monkeypatch.setenv(name, str(value))
    built: Any = settings()
    assert built.kafka.bootstrap_servers == "kafka:19092"
    if hasattr(built, "store"):
        assert built.store.url == "s3://trimtab/blobs"


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_finds_the_keys_that_setup_made(service: str) -> None:
    container, setup = CONTAINERS[service], CONTAINERS["setup"]
    folder = setup["command"][-1]
    wanted = KeyFiles(Path(folder)).environment(service)
    given = {name: value for name, value in container["environment"].items() if name in (PRIVATE, PUBLIC)}
    assert given == wanted
    assert setup["volumes"] == [f"keys:{folder}"]
    assert (f"keys:{folder}:ro" in container.get("volumes", [])) == bool(wanted)


def takes(settings: type[BaseSettings], variable: str) -> bool:
    """Whether a settings class has the field that an environment variable names."""
    fields: Any = settings.model_fields
    for part in variable.removeprefix("TRIMTAB_").lower().split("__"):
        if part not in fields:
            return False
        fields = getattr(fields[part].annotation, "model_fields", {})
    return True


def test_kafka_has_the_settings_of_the_embedded_broker() -> None:
    environment = CONTAINERS["kafka"]["environment"]
    for key, value in {**SETTINGS, **replication(1)}.items():
        if key not in KAFKA_ONLY:
            assert environment[f"KAFKA_{key.replace('.', '_').upper()}"] == value, key
    assert environment["KAFKA_ADVERTISED_LISTENERS"] == f"INTERNAL://kafka:19092,HOST://localhost:{KAFKA_PORT}"


def test_health_checks_start_no_jvm() -> None:
    for name, container in CONTAINERS.items():
        check = " ".join(container.get("healthcheck", {}).get("test", []))
        assert not re.search(r"kafka-|java|\.sh\b", check), name


def test_all_that_runs_comes_back_after_a_crash_or_a_reboot_but_not_after_a_stop() -> None:
    policies = {name: container.get("restart") for name, container in CONTAINERS.items() if name not in ONE_SHOT}
    assert set(policies.values()) == {"unless-stopped"}, policies


def test_a_slow_start_is_no_failure() -> None:
    """All start together, and on a machine whose cores are taken that lasts minutes."""
    dockerfile = (ROOT / "infra/docker/Dockerfile").read_text()
    [image] = re.findall(r"^HEALTHCHECK (.*?) CMD", dockerfile, re.MULTILINE)
    own = [container["healthcheck"] for container in CONTAINERS.values() if "test" in container.get("healthcheck", {})]
    patience = [re.search(r"--start-period=(\d+)s", image), *(re.match(r"(\d+)s$", one["start_period"]) for one in own)]
    assert all(found is not None and int(found[1]) >= 120 for found in patience)
    assert "--start-interval=1s" in image
    assert all(one["start_interval"] == "1s" for one in own), "and a quick one is seen at once"


def test_everything_that_is_mounted_exists_and_every_volume_is_declared() -> None:
    for container in CONTAINERS.values():
        for mount in container.get("volumes", []):
            source = mount.split(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"], mount


def test_ports_are_offered_to_this_machine_alone() -> None:
    ports = [port for container in CONTAINERS.values() for port in container.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    hosts = [port.split(":")[1] for port in ports]
    assert len(set(hosts)) == len(hosts)
    assert str(ZIPKIN_PORT) in hosts


def test_the_image_is_built_in_stages_and_runs_as_nobody_special() -> None:
    text = (ROOT / "infra/docker/Dockerfile").read_text()
    assert len(re.findall(r"^FROM ", text, re.MULTILINE)) == 3
    assert re.search(r"^COPY --from=uv /uv ", text, re.MULTILINE)
    assert text.rindex("\nUSER trimtab") > text.rindex("\nFROM ")
    [packages] = re.findall(r'ARG PACKAGES="(.*)"', text)
    assert packages.split() == ["trimtab", *(f"trimtab-{service}" for service in SERVICES)]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for source in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        for path in source.split():
            assert (ROOT / path).exists(), path
            assert f"!{path}" in ignored, path


def test_a_container_shares_the_cores_as_a_process_of_the_local_cluster_does() -> None:
    text = (ROOT / "infra/docker/Dockerfile").read_text()
    for name, value in ONE_THREAD.items():
        assert re.search(rf"\b{name}={value}\b", text), name


def test_prometheus_scrapes_every_service() -> None:
    jobs = {job["job_name"]: job["static_configs"][0]["targets"] for job in PROMETHEUS["scrape_configs"]}
    port = CONTAINERS["ingest"]["environment"]["TRIMTAB_HTTP__PORT"]
    assert jobs["trimtab"] == [f"{service}:{port}" for service in SERVICES]


def test_traces_reach_zipkin_through_the_collector() -> None:
    config = yaml.safe_load((ROOT / "infra/otel/collector.yaml").read_text())
    endpoint = (ROOT / "infra/docker/observability.env").read_text()
    port = config["receivers"]["otlp"]["protocols"]["http"]["endpoint"].rpartition(":")[2]
    assert f"TRIMTAB_OTLP__ENDPOINT=http://collector:{port}/v1/traces" in endpoint.splitlines()
    assert config["exporters"]["zipkin"]["endpoint"].startswith(f"http://zipkin:{ZIPKIN_PORT}/")
    used = {part for line in config["service"]["pipelines"].values() for parts in line.values() for part in parts}
    defined = {name for kind in ("receivers", "processors", "exporters") for name in config[kind]}
    assert used == defined


def test_as_many_traces_are_started_as_in_the_local_cluster() -> None:
    given = dict(
        line.split("=", 1)
        for line in (ROOT / "infra/docker/observability.env").read_text().splitlines()
        if not line.startswith("#")
    )
    assert given["TRIMTAB_TRACE_SHARE"] == TRACE_SHARE
    starts = [service for service in SERVICES if "trace_share" in settings_of(service).model_fields]
    assert [name for name, one in CONTAINERS.items() if "TRIMTAB_TRACE_SHARE" in one.get("environment", {})] == starts
    for name in given.keys() - {"COMPOSE_PROFILES"}:
        assert all(CONTAINERS[service]["environment"].get(name, "") is None for service in starts), "passed on as given"


def known() -> dict[str, set[str]]:
    """Labels by the names that a query may use."""
    found = {"process_resident_memory_bytes": {"job", "service"}, "up": {"job", "service"}}
    for metric in (value for value in vars(telemetry).values() if isinstance(value, Metric)):
        labels = {label_name(name) for name in metric.attributes} | {"job", "service"}
        name = prometheus_name(metric)
        suffixes = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        found |= {name + suffix: labels | ({"le"} if suffix == "_bucket" else set()) for suffix in suffixes}
    return found


def check(what: str, query: str, words: set[str]) -> None:
    """A query asks for what there is, and its words, the labels in a legend, are labels of that."""
    names = set(
        re.findall(r"\b(?:(?:trimtab|http|process)_[a-z0-9_]+|up)\b(?=[{\[)])", re.sub(r"by \([^)]*\)", "", query))
    )
    assert names, f"{what} asks for nothing of ours"
    for name in names:
        assert name in known(), f"{what}: there is no metric {name}"
        labels = set(re.findall(r"[{,]\s*(\w+)\s*[=!]", query)) | words
        labels |= {label for group in re.findall(r"by \(([^)]*)\)", query) for label in re.split(r",\s*", group)}
        assert labels <= known()[name], f"{what}: {labels - known()[name]}"


@pytest.mark.parametrize(("panel", "query", "legend"), list(queries(ROOT / "infra/grafana/dashboards")))
def test_a_dashboard_asks_only_for_metrics_and_labels_that_there_are(panel: str, query: str, legend: str) -> None:
    check(panel, query, set(re.findall(r"{{(\w+)}}", legend)))


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_is_on_metrics_and_labels_that_there_are(rule: Mapping[str, Any]) -> None:
    words = set(re.findall(r"{{ \$labels\.(\w+) }}", str(rule["annotations"])))
    check(rule["alert"], rule["expr"], words)
    for group in re.findall(r"by \(([^)]*)\)", rule["expr"]):
        assert words <= set(re.split(r",\s*", group)), "labels that the sum has lost"


def test_what_stands_still_until_a_person_decides_raises_an_alert() -> None:
    asked = " ".join(rule["expr"] for rule in ALERTS)
    assert all(name in asked for name in map(prometheus_name, (telemetry.RUNTIME_PARKED, telemetry.RUNTIME_UNREADABLE)))
    assert "./infra/prometheus:/etc/prometheus:ro" in CONTAINERS["prometheus"]["volumes"]


def test_the_home_dashboard_and_its_source_are_provisioned() -> None:
    grafana = CONTAINERS["grafana"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert f"./infra/grafana/dashboards:{home.rpartition('/')[0]}:ro" in grafana["volumes"]
    sources = yaml.safe_load((ROOT / "infra/grafana/provisioning/datasources/prometheus.yaml").read_text())
    uids = {source["uid"] for source in sources["datasources"]}
    dashboard = json.loads((ROOT / "infra/grafana/dashboards" / home.rpartition("/")[2]).read_text())
    assert all(panel["datasource"]["uid"] in uids for panel in dashboard["panels"] if "datasource" in panel)
