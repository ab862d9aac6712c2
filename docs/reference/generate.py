"""Writes the reference pages from the code that they describe: `python docs/reference/generate.py` (`make docs`).

`tests/unit/test_docs.py` compares the pages with what this makes, so that no command, setting or metric is missing.
"""

import contextlib
import io
import os
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from echoplane.cli import COMMANDS
from echoplane.edge import fleet_metrics
from echoplane.exposition import Definition
from echoplane.monitoring import alerts, metrics, monitor_metrics
from echoplane.settings import ServingSettings
from helm import dashboards
from serving.edge.settings import EdgeSettings
from serving.enrolment.settings import PREFIX as ENROLMENT
from serving.enrolment.settings import EnrolmentSettings
from serving.gateway import metrics as gateway_metrics
from serving.gateway.settings import GatewaySettings, Peer, Rule
from serving.monitor.settings import MonitorSettings

FOLDER = Path(__file__).resolve().parent
CHECKOUT = FOLDER.parents[1]
CHART = CHECKOUT / "helm" / "echoplane" / "files"
HELP_COLUMNS = "100"
SUFFIX = {"counter": "_total", "histogram": "_bucket, _sum, _count"}


def main() -> int:
    """Writes every page beside this file."""
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    for path, text in chart_files().items():
        path.write_text(text, encoding="utf-8")
    return 0


def chart_files() -> dict[Path, str]:
    """Returns the text of each file of the chart that is made from the code."""
    rules = {CHART / "rules" / f"{part}.yaml": alerts.rules_yaml(part) for part in alerts.FILES}
    return rules | {CHART / "dashboards" / name: text for name, text in dashboards.chart_files().items()}


def pages() -> dict[str, str]:
    """Returns the text of each page by its file name."""
    return {
        "commands.md": _commands(),
        "settings.md": _settings(),
        "metrics.md": _metrics(),
        "alerts.md": _alerts(),
    }


def _commands() -> str:
    parts = ["# Commands", "", "What `echoplane COMMAND --help` prints, for every command.", ""]
    for name in COMMANDS:
        parts += [f"## echoplane {name}", "", "```", _help(name).rstrip(), "```", ""]
    return "\n".join(parts)


def _help(name: str) -> str:
    text = io.StringIO()
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = HELP_COLUMNS
    try:
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            command = COMMANDS[name]
            command.run(command.parser(name), ["--help"])
    finally:
        os.environ.pop("COLUMNS") if columns is None else os.environ.update(COLUMNS=columns)
    return text.getvalue().replace(f"{CHECKOUT}/", "")  # a default may lie in the checkout, wherever that is


def _settings() -> str:
    parts = [
        "# Settings of the service",
        "",
        "Environment variables that the service reads when it starts. MLflow keeps its own variables beside them.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    parts += _rows(ServingSettings, "ECHOPLANE_")
    parts += ["", "## Settings of the DICOM gateway", "", "| variable | default | meaning |", "|---|---|---|"]
    parts += _rows(GatewaySettings, "ECHOPLANE_GATEWAY_")
    for model, variable in ((Rule, "RULES"), (Peer, "PEERS")):
        parts += ["", f"Fields of one entry of `ECHOPLANE_GATEWAY_{variable}`:", ""]
        parts += ["| field | default | meaning |", "|---|---|---|", *_rows(model)]
    parts += [
        "",
        "## Settings of the monitor",
        "",
        "Environment variables that `python -m serving.monitor` reads when it starts.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
        *_rows(MonitorSettings, "ECHOPLANE_"),
    ]
    parts += ["", "## Settings of the edge agent", "", "Environment variables of `python -m serving.edge`.", ""]
    parts += ["| variable | default | meaning |", "|---|---|---|", *_rows(EdgeSettings, "ECHOPLANE_EDGE_")]
    parts += ["", "## Settings of the enrolment", "", "Environment variables of `python -m serving.enrolment`.", ""]
    parts += ["| variable | default | meaning |", "|---|---|---|", *_rows(EnrolmentSettings, ENROLMENT)]
    return "\n".join([*parts, ""])


def _rows(model: type[BaseModel], prefix: str | None = None) -> list[str]:
    """Returns one row per field; fields without a prefix are not variables."""
    rows = []
    for name, field in model.model_fields.items():
        default = "" if field.is_required() else field.get_default(call_default_factory=True)
        shown = "" if default in ("", None, ()) else f"`{_plain(default)}`"
        variable = name if prefix is None else _variable(name, field, prefix)
        rows.append(f"| `{variable}` | {shown} | {_one_line(field.description or '')} |")
    return rows


def _plain(default: object) -> str:
    """Returns a default as it is written into a variable."""
    if isinstance(default, dict | tuple):
        return TypeAdapter(type(default)).dump_json(default, exclude_defaults=True).decode()
    return str(default)


def _variable(name: str, field: FieldInfo, prefix: str) -> str:
    return str(field.validation_alias) if field.validation_alias else f"{prefix}{name.upper()}"


def _metrics() -> str:
    parts = [
        "# Metrics",
        "",
        "What `/metrics` of the service exports for Prometheus, beside BentoML's own metrics.",
        "",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    parts += _metric_rows(metrics)
    parts += ["", "## Metrics of the DICOM gateway", "", "| metric | type | labels | meaning |", "|---|---|---|---|"]
    parts += _metric_rows(gateway_metrics)
    parts += ["", "## Metrics of the monitor", "", "| metric | type | labels | meaning |", "|---|---|---|---|"]
    parts += _defined_rows(monitor_metrics.DEFINITIONS)
    parts += ["", "## Metrics of the edge fleet", "", "What `echoplane edge status --metrics FILE` writes.", ""]
    parts += ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    parts += _defined_rows(fleet_metrics.DEFINITIONS)
    return "\n".join([*parts, ""])


def _defined_rows(definitions: Iterable[Definition]) -> list[str]:
    rows = []
    for one in definitions:
        labels = ", ".join(f"`{label}`" for label in one.labels)
        rows.append(f"| `{one.series}` | {one.kind} | {labels} | {_one_line(one.help)} |")
    return rows


def _metric_rows(module: ModuleType) -> list[str]:
    rows = []
    collectors = {id(one): one for one in vars(module).values() if isinstance(one, MetricWrapperBase)}
    for metric in collectors.values():
        described = metric.describe()[0]
        name = described.name + SUFFIX.get(described.type, "").split(",")[0]
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        rows.append(f"| `{name}` | {described.type} | {labels} | {_one_line(described.documentation)} |")
    return rows


def _alerts() -> str:
    parts = [
        "# Alerts",
        "",
        "The rules of the chart (`monitoring.prometheusRule`). [Runbooks](../runbooks.md) say what to do.",
        "",
        "| alert | severity | holds for | says | asks for retraining |",
        "|---|---|---|---|---|",
    ]
    for one in alerts.ALERTS:
        runbook = f"[`{one.name}`](../runbooks.md#{one.name.lower()})"
        retrains = "yes" if one.retrains else ""
        parts.append(
            f"| {runbook} | {one.severity} | {one.lasting or 'at once'} | {_one_line(one.summary)} | {retrains} |"
        )
    return "\n".join([*parts, ""])


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    raise SystemExit(main())
