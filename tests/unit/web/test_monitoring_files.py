"""The dashboard, the alerts and what starts them ask only for what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import promql_parser as promql
import pytest
import yaml
from flask.testing import FlaskClient

from common import index_metrics, stage_metrics
from common.messages import SystemProblem
from common.redis_client import connect
from common.settings import Settings
from tests.unit.helpers import REPOSITORY
from tests.unit.web.building import index_files, report_worker
from tests.unit.web.scrape import Scrape

DEPLOY = REPOSITORY / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/imagesearch.json").read_text())
RULES = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())
COMPOSE = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
MONITORING = {
    name: service for name, service in COMPOSE["services"].items() if "monitoring" in service.get("profiles", ())
}
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# Prometheus itself adds these.
ADDED_LABELS = {"instance", "job", "le"}
ADDED_METRICS = {"up": {"instance", "job"}}


def expressions() -> Iterator[tuple[str, str]]:
    """Where an expression stands, and the expression."""
    for alert in ALERTS:
        yield alert["alert"], alert["expr"]
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "1m")


def used(expression: str) -> tuple[dict[str, set[str]], set[str]]:
    """The metrics of an expression with the labels that are matched, and the labels it groups by.

    Raises:
        ValueError: It is no PromQL.
    """
    metrics: dict[str, set[str]] = {}
    grouped: set[str] = set()

    def look(node: promql.Expr) -> None:
        if isinstance(node, promql.VectorSelector):
            metrics.setdefault(node.name, set()).update(matcher.name for matcher in node.matchers.matchers)
        if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
            grouped.update(node.modifier.labels)

    promql.walk(promql.parse(expression), look)
    return metrics, grouped


@pytest.fixture
def exposed(client: FlaskClient, settings: Settings, library: Path) -> dict[str, set[str]]:
    """Each metric of a system in which everything has happened, with its labels."""
    index_files(settings, library, ["a.jpg"])
    problem = SystemProblem(kind="disk-full", detail="No room.")
    report_worker(settings, model="tiny/fc1", threads=2, images_per_second=10.0, problems=[problem])
    with connect(settings) as connection:
        stage_metrics.count_failure(connection, "damaged-image")
        index_metrics.count(connection, failed={"damaged-image": 1})
    client.get("/healthz")
    found: dict[str, set[str]] = {}
    for family in Scrape.of(client).families.values():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_each_metric_and_label_that_is_asked_for_is_told(exposed: dict[str, set[str]]) -> None:
    known = {name: labels | ADDED_LABELS for name, labels in (exposed | ADDED_METRICS).items()}
    everything = list(expressions())
    assert len(everything) > 40
    for place, expression in everything:
        metrics, grouped = used(expression)
        assert metrics, place
        assert metrics.keys() <= known.keys(), place
        for name, labels in metrics.items():
            assert labels <= known[name], f"{place}: {name}"
        assert grouped <= set().union(*(known[name] for name in metrics)), place


def test_what_is_told_is_shown(exposed: dict[str, set[str]]) -> None:
    asked = {name for _, expression in expressions() for name in used(expression)[0]}
    ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in exposed if name.startswith("imagesearch_")}
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    assert ours - shown == {"imagesearch_build_info", "imagesearch_workers"}


def test_alerts_say_what_is_wrong_and_what_to_do() -> None:
    assert len({alert["alert"] for alert in ALERTS}) == len(ALERTS)
    for alert in ALERTS:
        assert alert.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert alert["labels"]["severity"] in {"warning", "critical"}
        assert alert["annotations"].keys() == {"summary", "action"}
        assert all(alert["annotations"].values())


def test_panels_have_places_of_their_own() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    for panel in PANELS:
        assert panel["description"], panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {"${datasource}"}
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert variables == {"datasource"}


def test_the_services_find_their_files() -> None:
    assert MONITORING.keys() == {"prometheus", "grafana", "flower"}
    mounts = {
        target: REPOSITORY / source
        for service in MONITORING.values()
        for source, target in (volume.split(":")[:2] for volume in service.get("volumes", ()))
        if source.startswith("./")
    }

    def mounted(path: str) -> Path:
        target = next(target for target in mounts if path.startswith(f"{target}/") or path == target)
        return mounts[target] / path.removeprefix(target).lstrip("/")

    prometheus = yaml.safe_load(mounted("/etc/prometheus/prometheus.yml").read_text())
    assert [yaml.safe_load(mounted(path).read_text()) for path in prometheus["rule_files"]] == [RULES]
    (provider,) = yaml.safe_load(mounted("/etc/grafana/provisioning/dashboards/imagesearch.yml").read_text())[
        "providers"
    ]
    assert [path.name for path in mounted(provider["options"]["path"]).iterdir()] == ["imagesearch.json"]
    home = MONITORING["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert json.loads(mounted(home).read_text()) == DASHBOARD
    (source,) = yaml.safe_load(mounted("/etc/grafana/provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    assert (REPOSITORY / MONITORING["flower"]["build"]["dockerfile"]).is_file()


def test_prometheus_asks_every_web_container() -> None:
    scrapes = {
        job["job_name"]: job
        for job in yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    }
    (discovery,) = scrapes["imagesearch"]["dns_sd_configs"]
    (name,) = discovery["names"]
    command = COMPOSE["services"][name]["command"]
    assert command[command.index("--port") + 1] == str(discovery["port"])
    token = scrapes["imagesearch"]["authorization"]["credentials_file"]
    assert f"> {token}" in " ".join(MONITORING["prometheus"]["command"])


def test_monitoring_is_for_this_host_and_pinned() -> None:
    for name, service in MONITORING.items():
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert "build" in service or re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"]), name
