"""README of each component, generated from the component and its stage's config: `python -m components.readme` writes
them all."""

import importlib
from pathlib import Path
from typing import Any

STAGES = ("phantom", "deid", "dataset", "train", "export", "evaluate", "promote")
"""Stages with a component; each is also a command of `echoplane`."""
COMPONENTS = (*STAGES, "evaluate_without_confusion", "batch_plan", "batch_part", "batch_results", "ended")
FOLDERS = {
    "batch_plan": "batch",
    "batch_part": "batch",
    "batch_results": "batch",
    "evaluate_without_confusion": "evaluate",
}
"""Folders of the components that share one; each other component has a folder of its own name."""
CONFIGS = {"batch_plan": "PlanConfig", "batch_part": "PartConfig", "batch_results": "ResultsConfig"}
FOLDER = Path(__file__).parent


def component(name: str) -> Any:
    """Returns the component `name` as KFP knows it."""
    return getattr(importlib.import_module(f"components.{folder(name)}.component"), name)


def config(name: str) -> Any:
    """Returns the config class of the stage behind component `name`."""
    return getattr(importlib.import_module(f"echoplane.stages.{folder(name)}"), CONFIGS.get(name, "Config"))


def folder(name: str) -> str:
    return FOLDERS.get(name, name)


def readme(stage: str) -> str:
    """Returns the text of `components/STAGE/README.md`: each component of that folder."""
    return "\n".join(line for name in COMPONENTS if folder(name) == stage for line in _described(name))


def _described(name: str) -> list[str]:
    spec = component(name).component_spec
    return [
        f"# {name}",
        "",
        spec.description.splitlines()[0],
        "",
        f"A thin call of `echoplane.stages.{folder(name)}`{_command(folder(name))}.",
        "",
        "| input | type | meaning |",
        "|---|---|---|",
        *(_row(given, its.type, _meaning(config(name), given)) for given, its in spec.inputs.items()),
        "",
        "| output | type | what it holds |",
        "|---|---|---|",
        *(_row(given, its.type, _holds(name, given, its.type)) for given, its in spec.outputs.items()),
        "",
    ]


def _command(stage: str) -> str:
    if stage == "batch":
        return ": `echoplane batch` runs all three on the command line"
    return f": the same as `echoplane {stage}` on the command line" if stage in STAGES else ""


def _meaning(config: Any, name: str) -> str:
    return config.model_fields[name].description if name in config.model_fields else GIVEN[name]


GIVEN = {"status": "How the other steps ended. Kubeflow gives it to an exit handler."}
TYPES = {
    "String": "text",
    "Integer": "whole number",
    "Boolean": "true or false",
    "Dict": "JSON object",
    "typing.List[str]": "list of texts",
    "PipelineTaskFinalStatus": "status",
}
SHOWN = {"Metrics": "figures", "ClassificationMetrics": "the confusion matrix", "HTML": "a page", "Markdown": "a page"}


def _row(name: str, kind: str, meaning: str) -> str:
    plain = TYPES.get(kind) or f"artifact, {_artifact(kind)}"
    return f"| `{name}` | {plain} | {' '.join(meaning.split()).replace('|', '/')} |"


def _artifact(kind: str) -> str:
    return kind.split("@")[0].removeprefix("system.")


HELD = {
    ("table", "Dataset"): "results.csv",
    ("answers", "Dataset"): "results.json",
    ("Output", "typing.List[str]"): "the numbers of the parts",
    ("Output", "String"): "path of the part's manifest",
    ("ended", "String"): "promoted, refused, succeeded or failed",
}


def _holds(component: str, given: str, kind: str) -> str:
    name = _artifact(kind)
    for key in ((component, name), (given, name)):
        if key in HELD:
            return HELD[key]
    return f"{SHOWN[name]} for Kubeflow's UI" if name in SHOWN else "the stage's manifest: where its data lie"


def write() -> None:
    for stage in dict.fromkeys(map(folder, COMPONENTS)):
        (FOLDER / stage / "README.md").write_text(readme(stage))


if __name__ == "__main__":
    write()
