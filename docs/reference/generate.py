"""Writes the reference pages from the code that they describe: `python docs/reference/generate.py` (`make docs`).

`tests/unit/test_docs.py` compares the pages with what this makes, so that no command, setting or metric is missing.
"""

import contextlib
import io
import os
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase
from pydantic.fields import FieldInfo

from echoplane.cli import COMMANDS
from echoplane.monitoring import metrics
from echoplane.settings import ServingSettings

FOLDER = Path(__file__).resolve().parent
CHECKOUT = FOLDER.parents[1]
HELP_COLUMNS = "100"
SUFFIX = {"counter": "_total", "histogram": "_bucket, _sum, _count"}


def main() -> int:
    """Writes every page beside this file."""
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


def pages() -> dict[str, str]:
    """Returns the text of each page by its file name."""
    return {"commands.md": _commands(), "settings.md": _settings(), "metrics.md": _metrics()}


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
    for name, field in ServingSettings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "" if default in ("", None) else f"`{default}`"
        parts.append(f"| `{_variable(name, field)}` | {shown} | {_one_line(field.description or '')} |")
    return "\n".join([*parts, ""])


def _variable(name: str, field: FieldInfo) -> str:
    return str(field.validation_alias) if field.validation_alias else f"ECHOPLANE_{name.upper()}"


def _metrics() -> str:
    parts = [
        "# Metrics",
        "",
        "What `/metrics` of the service exports for Prometheus, beside BentoML's own metrics.",
        "",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    collectors = {id(one): one for one in vars(metrics).values() if isinstance(one, MetricWrapperBase)}
    for metric in collectors.values():
        described = metric.describe()[0]
        name = described.name + SUFFIX.get(described.type, "").split(",")[0]
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        parts.append(f"| `{name}` | {described.type} | {labels} | {_one_line(described.documentation)} |")
    return "\n".join([*parts, ""])


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    raise SystemExit(main())
