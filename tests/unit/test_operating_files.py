"""The files that operators load, and the page that goes with them, name what there is: metrics, labels, settings, alerts."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase

from ingest.channels.registry import CODES, get_adapter
from ingest.runtime import Runtime
from ingest.settings import Settings
from ingest.store.spool import Spool
from ingest.web import metrics as web_metrics
from ingest.web.app import WebApp
from ingest.web.operations import DatabaseCollector, SpoolCollector
from workers.app import make_worker

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "operations.md").read_text()
RULES = yaml.safe_load((DOCS / "operations" / "prometheus-rules.yaml").read_text())
DASHBOARD = json.loads((DOCS / "operations" / "grafana-dashboard.json").read_text())

METRIC = re.compile(r"\bingest_[a-z_]+\b")
SELECTOR = re.compile(r"\b(ingest_[a-z_]+)\{([^}]*)\}")
GROUPED = re.compile(r"\bby \(([^)]*)\)")
# Between them these two import every module that counts something.
PROCESSES = (WebApp, make_worker)
# Put on every series by Prometheus itself.
TARGET_LABELS = {"instance", "job"}


class NoRows:
    """An empty database: every query finds nothing, every sum is zero."""

    def execute(self, *_: object) -> "NoRows":
        return self

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def scalar_one(self) -> int:
        return 0


@contextmanager
def empty_database() -> Iterator[NoRows]:
    yield NoRows()


def exported(spool_directory: Path) -> dict[str, set[str]]:
    """Return every series that the code exports, with its labels."""
    found: dict[str, set[str]] = {}
    for metric in list(REGISTRY._collector_to_names):
        if isinstance(metric, MetricWrapperBase) and metric.describe()[0].name.startswith("ingest_"):
            found |= series_of(metric)
    runtime = cast(Runtime, SimpleNamespace(begin=empty_database, spool=lambda: Spool(spool_directory, 1)))
    for collector in (DatabaseCollector(runtime), SpoolCollector(runtime)):
        for family in collector.collect():
            found[family.name] = {label for sample in family.samples for label in sample.labels} | set(
                getattr(family, "_labelnames", ())
            )
    return found


def series_of(metric: MetricWrapperBase) -> dict[str, set[str]]:
    name, labels = metric.describe()[0].name, set(metric._labelnames)
    if isinstance(metric, Histogram):
        return {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
    assert isinstance(metric, Counter)
    return {f"{name}_total": labels}


def alerts() -> list[dict[str, Any]]:
    return [rule for group in RULES["groups"] for rule in group["rules"]]


def expressions() -> dict[str, str]:
    """Return every expression of both files, by where it stands."""
    found = {f"alert {rule['alert']}": rule["expr"] for rule in alerts()}
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            found[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    return found


@pytest.mark.parametrize(("where", "expression"), expressions().items())
def test_expression_uses_series_and_labels_that_the_code_exports(where: str, expression: str, tmp_path: Path) -> None:
    series = exported(tmp_path)
    used = set(METRIC.findall(expression))
    assert used, where
    assert used <= series.keys(), where
    for name, selector in SELECTOR.findall(expression):
        assert set(re.findall(r"(\w+)\s*[=!]", selector)) <= series[name], where
    everywhere = set.union(*(series[name] for name in used)) | TARGET_LABELS
    for labels in GROUPED.findall(expression):
        assert {each.strip() for each in labels.split(",")} <= everywhere, where


def test_webhook_outcomes_in_expressions_are_counted_by_the_code() -> None:
    told = re.findall(r'ingest_webhook_answers_total\{outcome="(\w+)"\}', " ".join(expressions().values()))
    assert told
    assert set(told) <= web_metrics._answers.keys()


def test_page_explains_every_series_and_names_none_that_there_is_not(tmp_path: Path) -> None:
    series = {re.sub(r"_(bucket|sum|count)$", "", name): labels for name, labels in exported(tmp_path).items()}
    assert set(METRIC.findall(PAGE)) - {"ingest_api"} == series.keys()


def test_every_alert_has_a_summary_a_severity_and_a_heading_that_says_what_to_do() -> None:
    headings = re.findall(r"^### (Ingest\w+)$", PAGE, re.MULTILINE)
    assert headings == [rule["alert"] for rule in alerts()]
    assert all(rule["annotations"]["summary"] for rule in alerts())
    assert {rule["labels"]["severity"] for rule in alerts()} == {"critical", "warning"}


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_page_lists_every_setting() -> None:
    variables = {
        str(field.validation_alias or f"INGEST_{name.upper()}") for name, field in Settings.model_fields.items()
    }
    assert set(re.findall(r"^\| `((?:INGEST_|DATABASE_|BROKER_)\w+)` \|", PAGE, re.MULTILINE)) == variables


def test_page_lists_every_channel_with_the_settings_it_requires() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", PAGE, re.MULTILINE))
    for code in CODES:
        needed = {each.name for each in get_adapter(code).settings if each.required}
        assert set(re.findall(r"`(\w+)`", listed[code])) == needed, code
