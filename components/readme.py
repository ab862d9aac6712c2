"""The README of each component, made from it and its stage's config: `python -m components.readme` writes them all."""

import importlib
from pathlib import Path
from typing import Any

STAGES = ("phantom", "deid", "dataset", "train", "export", "evaluate", "promote")
"""Each also a command of `echoplane`."""
COMPONENTS = (*STAGES, "ended")
FOLDER = Path(__file__).parent


def component(stage: str) -> Any:
    """The component of `stage` as KFP knows it."""
    return getattr(importlib.import_module(f"components.{stage}.component"), stage)


def readme(stage: str) -> str:
    """The text of `components/STAGE/README.md`."""
    made = component(stage)
    config = importlib.import_module(f"echoplane.stages.{stage}").Config
    spec = made.component_spec
    return "\n".join(
        [
            f"# {stage}",
            "",
            spec.description.splitlines()[0],
            "",
            f"A thin call of `echoplane.stages.{stage}`{_command(stage)}.",
            "",
            "| input | type | meaning |",
            "|---|---|---|",
            *(_row(name, given.type, _meaning(config, name)) for name, given in spec.inputs.items()),
            "",
            "| output | type | what it holds |",
            "|---|---|---|",
            *(_row(name, given.type, _holds(given.type)) for name, given in spec.outputs.items()),
            "",
        ]
    )


def _command(stage: str) -> str:
    return f": the same as `echoplane {stage}` on the command line" if stage in STAGES else ""


def _meaning(config: Any, name: str) -> str:
    return config.model_fields[name].description if name in config.model_fields else GIVEN[name]


GIVEN = {"status": "How the other steps ended. Kubeflow gives it to an exit handler."}
TYPES = {
    "String": "text",
    "Integer": "whole number",
    "Boolean": "true or false",
    "Dict": "JSON object",
    "PipelineTaskFinalStatus": "status",
}
SHOWN = {"Metrics": "figures", "ClassificationMetrics": "the confusion matrix", "HTML": "a page", "Markdown": "a page"}


def _row(name: str, kind: str, meaning: str) -> str:
    plain = TYPES.get(kind) or f"artifact, {_artifact(kind)}"
    return f"| `{name}` | {plain} | {' '.join(meaning.split()).replace('|', '/')} |"


def _artifact(kind: str) -> str:
    return kind.split("@")[0].removeprefix("system.")


def _holds(kind: str) -> str:
    name = _artifact(kind)
    return f"{SHOWN[name]} for Kubeflow's UI" if name in SHOWN else "the stage's manifest: where its data lie"


def write() -> None:
    for stage in COMPONENTS:
        (FOLDER / stage / "README.md").write_text(readme(stage))


if __name__ == "__main__":
    write()
