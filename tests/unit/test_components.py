"""The components: thin doors whose names, documents and image are those of the stages behind them."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import yaml
from kfp.compiler import Compiler

from components.readme import FOLDER, STAGES, component, readme
from echoplane.phantom.styles import STYLES
from echoplane.stages.stage import Manifest, package_digest
from pipelines.echo_view import pipeline


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> dict:
    path = tmp_path_factory.mktemp("compiled") / "echo-view.yaml"
    Compiler().compile(pipeline, str(path))
    return next(yaml.safe_load_all(path.read_text()))  # what follows is Kubernetes' own part


@pytest.mark.parametrize("stage", STAGES)
def test_every_readme_says_what_its_component_takes_and_gives(stage: str) -> None:
    assert (FOLDER / stage / "README.md").read_text() == readme(stage), "run `python -m components.readme`"


@pytest.mark.parametrize("stage", STAGES)
def test_inputs_have_the_names_of_the_config(stage: str) -> None:
    config = importlib.import_module(f"echoplane.stages.{stage}").Config
    assert set(component(stage).component_spec.inputs) <= set(config.model_fields)


def test_every_parameter_of_the_pipeline_has_a_default_and_a_description(package: dict) -> None:
    parameters = package["root"]["inputDefinitions"]["parameters"]
    assert len(parameters) > 10
    for name, parameter in parameters.items():
        assert parameter.get("description"), name
        assert parameter.get("isOptional"), name


def test_no_parameter_could_hold_a_key_because_kubeflow_prints_them_all(package: dict) -> None:
    named = [name for name in package["root"]["inputDefinitions"]["parameters"] if "key" in name]
    assert named == ["key_file"]


def test_images_carry_the_source_digest_and_install_nothing(package: dict) -> None:
    containers = [e["container"] for e in package["deploymentSpec"]["executors"].values()]
    assert len(containers) == len(STAGES)
    for container in containers:
        assert container["image"] == f"echoplane-python:{package_digest()[:12]}"
        assert "pip install" not in " ".join(container["command"])


def test_another_image_can_be_named_when_compiling(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pipelines", "compile", "echo-view"],
        env=os.environ | {"ECHOPLANE_IMAGE": "registry.example.org/python-echoplane:1", "PYTHONPATH": str(Path.cwd())},
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    compiled = yaml.safe_load((tmp_path / "build/pipelines/echo-view.yaml").read_text().partition("\n---")[0])
    images = {e["container"]["image"] for e in compiled["deploymentSpec"]["executors"].values()}
    assert images == {"registry.example.org/python-echoplane:1"}


def test_defaults_of_the_pipeline_are_those_of_the_stages() -> None:
    given = {name: spec.default for name, spec in pipeline.component_spec.inputs.items()}
    renamed = {"deid": {"policy": "deid_policy"}, "promote": {"policy": "gate_policy"}}
    for stage in STAGES:
        config = importlib.import_module(f"echoplane.stages.{stage}").Config
        for name, spec in component(stage).component_spec.inputs.items():
            default = config.model_fields[name].get_default(call_default_factory=True)
            if name == "root" or spec.type.startswith("system.") or spec.type == "Dict":
                continue
            assert given[renamed.get(stage, {}).get(name, name)] == default, (stage, name)


def test_phantom_deid_and_dataset_run_behind_their_components(tmp_path: Path) -> None:
    root = str(tmp_path)
    made, cleared, samples = (SimpleNamespace(path=str(tmp_path / name)) for name in ("made", "cleared", "samples"))
    component("phantom").python_func(root=root, patients=1, seed=3, frames=8, source="", studies=made)
    component("deid").python_func(
        root=root, studies=made, source="", labels="", key_file="", policy={}, deidentified=cleared
    )
    split = {"validation": 0, "test": 0}
    component("dataset").python_func(root=root, studies=cleared, site="here", split=split, samples=samples)
    manifests = [Manifest.read(output.path) for output in (made, cleared, samples)]
    assert [manifest.stage for manifest in manifests] == ["phantom", "deid", "dataset"]
    assert manifests[0].counts.items() >= {"patients": 1, "clips": 12}.items()
    assert manifests[1].counts == {"written": 12, "quarantined": 0, "refused": 0}
    assert manifests[2].counts["patients"]["train"] == 1
    maker = pq.read_table(manifests[2].path / "catalogue.parquet")["manufacturer"][0].as_py()
    assert maker in {style.manufacturer for style in STYLES.values()}


def test_a_phantom_step_makes_nothing_where_there_are_own_data(tmp_path: Path) -> None:
    made = SimpleNamespace(path=str(tmp_path / "made"))
    component("phantom").python_func(root=str(tmp_path), patients=54, seed=1, frames=24, source="mine", studies=made)
    assert Manifest.read(made.path).counts == {"patients": 0, "clips": 0}
