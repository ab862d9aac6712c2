"""The components: thin doors whose names, documents and image are those of the stages behind them."""

import importlib
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from kfp import dsl

from components.readme import COMPONENTS, FOLDER, STAGES, component, config, folder, readme
from echoplane.phantom.styles import STYLES
from echoplane.stages.stage import Manifest
from pipelines.echo_view import pipeline


@pytest.mark.parametrize("stage", sorted(set(map(folder, COMPONENTS))))
def test_every_readme_says_what_its_component_takes_and_gives(stage: str) -> None:
    assert (FOLDER / stage / "README.md").read_text() == readme(stage), "run `python -m components.readme`"


@pytest.mark.parametrize("name", sorted(set(COMPONENTS) - {"ended"}))
def test_inputs_have_the_names_of_the_config(name: str) -> None:
    assert set(component(name).component_spec.inputs) <= set(config(name).model_fields)


def test_defaults_of_the_pipeline_are_those_of_the_stages() -> None:
    given = {name: spec.default for name, spec in pipeline.component_spec.inputs.items()}
    renamed = {
        "phantom": {name: f"synthetic_{name}" for name in ("patients", "seed", "frames")} | {"source": "data_source"},
        "deid": {
            "policy": "deid_policy",
            "key_file": "deid_key_file",
            "source": "data_source",
            "labels": "data_labels",
            "feedback": "data_feedback",
        },
        "dataset": {name: f"data_{name}" for name in ("site", "split", "public")},
        "train": {name: f"train_{name}" for name in ("network", "augmentation", "workers", "gpu")},
        "evaluate": {"runtime": "serve_runtime", "precision": "serve_precision"},
        "promote": {"policy": "gate_policy"},
    }
    for stage in STAGES:
        config = importlib.import_module(f"echoplane.stages.{stage}").Config
        for name, spec in component(stage).component_spec.inputs.items():
            default = config.model_fields[name].get_default(call_default_factory=True)
            if name == "root" or spec.type.startswith("system.") or spec.type == "Dict":
                continue
            # what a pipeline does not set stays as the component has it
            assert given.get(renamed.get(stage, {}).get(name, name), spec.default) == default, (stage, name)


def test_phantom_deid_and_dataset_run_behind_their_components(tmp_path: Path) -> None:
    root = str(tmp_path)
    made, cleared, samples = (SimpleNamespace(path=str(tmp_path / name)) for name in ("made", "cleared", "samples"))
    component("phantom").python_func(root=root, patients=1, seed=3, frames=8, source="", studies=made)
    component("deid").python_func(
        root=root,
        studies=made,
        source="",
        labels="",
        feedback="",
        key_file="",
        policy={},
        deidentified=cleared,
        metrics=dsl.Metrics(),
    )
    split, shown = {"validation": 0, "test": 0}, dsl.Metrics()
    component("dataset").python_func(
        root=root, studies=cleared, site="here", split=split, start={}, samples=samples, metrics=shown
    )
    manifests = [Manifest.read(output.path) for output in (made, cleared, samples)]
    assert [manifest.stage for manifest in manifests] == ["phantom", "deid", "dataset"]
    assert manifests[0].counts.items() >= {"patients": 1, "clips": 12}.items()
    assert manifests[1].counts.items() >= {"written": 12, "quarantined": 0, "refused": 0}.items()
    assert manifests[2].counts["patients"]["train"] == 1
    assert shown.metadata["patients_train"] == 1
    maker = pq.read_table(manifests[2].path / "catalogue.parquet")["manufacturer"][0].as_py()
    assert maker in {style.manufacturer for style in STYLES.values()}


def test_a_phantom_step_makes_nothing_where_there_are_own_data(tmp_path: Path) -> None:
    made = SimpleNamespace(path=str(tmp_path / "made"))
    component("phantom").python_func(root=str(tmp_path), patients=54, seed=1, frames=24, source="mine", studies=made)
    assert Manifest.read(made.path).counts == {"patients": 0, "clips": 0}
