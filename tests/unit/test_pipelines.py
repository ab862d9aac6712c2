"""The compiled packages, against what Kubeflow Pipelines 2.17 asks of them."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp.compiler import Compiler

import pipelines
from components.image import BUILD, IMAGE
from echoplane.errors import ConfigError
from pipelines import local
from pipelines.__main__ import PREVIOUS_NAMES, _parser
from pipelines.__main__ import main as command_line
from pipelines.cluster import training_size

AMBIGUOUS = {"n", "y", "yes", "no", "on", "off", "true", "false"}
"""YAML 1.1 reads these names as booleans, and so does a Kubeflow that keeps pipelines in Kubernetes."""


class Package:
    """A compiled pipeline: `spec` is Kubeflow's part, `platform` Kubernetes' for each executor."""

    def __init__(self, path: Path) -> None:
        self.spec, beside = yaml.safe_load_all(path.read_text())
        self.platform = beside["platforms"]["kubernetes"]["deploymentSpec"]["executors"]

    @property
    def parameters(self) -> dict[str, Any]:
        return self.spec["root"]["inputDefinitions"]["parameters"]

    @property
    def executors(self) -> dict[str, Any]:
        return {name: one["container"] for name, one in self.spec["deploymentSpec"]["executors"].items()}

    def dags(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Each graph: what its component takes, and its tasks."""
        for component in (self.spec["root"], *self.spec["components"].values()):
            if "dag" in component:
                yield component.get("inputDefinitions", {}), component["dag"]["tasks"]


@pytest.fixture(scope="module", params=pipelines.NAMES)
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Package:
    path = tmp_path_factory.mktemp("compiled") / "pipeline.yaml"
    Compiler().compile(pipelines.by_name(request.param), str(path))
    return Package(path)


def test_a_first_run_needs_no_parameter_and_the_form_says_what_each_is(package: Package) -> None:
    assert len(package.parameters) > 5
    for name, parameter in package.parameters.items():
        assert parameter.get("isOptional"), name
        assert len(parameter.get("description", "")) > 20, name
        assert re.fullmatch(r"[a-z][a-z0-9_]+", name)
        assert name not in AMBIGUOUS


def test_the_pipeline_says_what_it_does(package: Package) -> None:
    assert len(package.spec["pipelineInfo"]["description"]) > 40
    assert re.fullmatch(r"[a-z0-9-]{1,40}", package.spec["pipelineInfo"]["name"]), "pods are named after it"


def test_no_parameter_could_hold_a_secret_because_kubeflow_prints_them_all(package: Package) -> None:
    named = [name for name in package.parameters if re.search("key|secret|password|token|credential", name)]
    assert set(named) <= {"deid_key_file"}, "a path"


def test_secrets_come_from_kubernetes_and_may_be_missing(package: Package) -> None:
    for executor in package.platform.values():
        for secret in executor.get("secretAsEnv", []):
            assert secret["optional"] is True
    for container in package.executors.values():
        assert {variable["name"] for variable in container.get("env", [])} <= {"ECHOPLANE_IMAGE"}


def test_no_variable_comes_from_two_sources_because_argo_merges_them_by_name(package: Package) -> None:
    for name, container in package.executors.items():
        names = [one["name"] for one in container.get("env", [])]
        for source in ("secretAsEnv", "configMapAsEnv"):
            names += [one["envVar"] for given in package.platform[name].get(source, []) for one in given["keyToEnv"]]
        assert len(names) == len(set(names)), name


def test_steps_that_read_a_bucket_know_the_charts_own_store_without_a_word_in_the_secret() -> None:
    steps = compiled("batch-inference").platform
    for name in ("exec-batch-plan", "exec-batch-part"):
        given = [
            (one["configMapName"], key["configMapKey"])
            for one in steps[name]["configMapAsEnv"]
            for key in one["keyToEnv"]
        ]
        assert ("echoplane-pipelines", "AWS_ENDPOINT_URL") in given


def test_every_step_runs_in_the_worker_image_of_this_source_and_installs_nothing(package: Package) -> None:
    tag = subprocess.run(["bash", str(BUILD), "--tag"], capture_output=True, text=True, check=True).stdout.strip()
    assert f"echoplane-worker:{tag}" == IMAGE
    for container in package.executors.values():
        assert container["image"] == IMAGE
        assert container["command"][0] == "sh"
        assert "pip install" not in " ".join(container["command"])
        assert "kfp.dsl.executor_main" in " ".join(container["command"])


def test_every_step_has_the_volume_a_size_and_an_end(package: Package) -> None:
    for name, container in package.executors.items():
        resources = container["resources"]
        assert cores(resources["resourceCpuRequest"]) <= 0.25, "a node of two cores has Kubeflow on it too"
        assert resources["resourceMemoryRequest"].endswith("i")
        assert resources["resourceMemoryLimit"].endswith("i")
        assert "resourceCpuLimit" not in resources
        (mount,) = package.platform[name]["pvcMount"]
        assert mount["mountPath"] == "/echoplane"
        assert int(package.platform[name]["activeDeadlineSeconds"]) >= 3600


def test_k1_every_step_and_the_exit_handler_pass_a_namespace_that_enforces_restricted(package: Package) -> None:
    """Kubeflow sets all that `restricted` asks for on a step's container but this."""
    assert "exec-ended" in package.platform
    for name in package.executors:
        assert package.platform[name]["securityContext"] == {"runAsNonRoot": True}, name


def test_every_step_has_the_label_by_which_the_charts_network_policy_finds_it(package: Package) -> None:
    for name in package.executors:
        assert package.platform[name]["podMetadata"]["labels"] == {"app.kubernetes.io/component": "pipeline-step"}


def test_k5_a_step_that_watches_ray_pods_asks_for_little(tmp_path: Path) -> None:
    package = compiled_with(tmp_path, ECHOPLANE_TRAIN_ON="ray")
    resources = package.executors["exec-train"]["resources"]
    assert cores(resources["resourceCpuRequest"]) <= 0.05
    assert resources["resourceMemoryRequest"] == "512Mi"
    assert package.parameters["train_ray_pods"]["defaultValue"]["volume"] == "echoplane-data"


def test_k5_another_word_for_where_training_runs_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected `step` or `ray`"):
        training_size("gpu")


def compiled_with(folder: Path, **environment: str) -> Package:
    """The package of echo-view, compiled by a process with these variables."""
    subprocess.run(
        [sys.executable, "-m", "pipelines", "compile", "echo-view"],
        env=os.environ | environment | {"PYTHONPATH": str(Path.cwd())},
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return Package(folder / "build/pipelines/echo-view.yaml")


def test_k8_only_a_task_with_classes_has_a_confusion_matrix_to_show() -> None:
    assert "ClassificationMetrics" in shown_by("echo-view")
    assert "ClassificationMetrics" not in shown_by("cmr")


GROUPS = {"root", "volume", "model", "gate_policy"}
PREFIXES = ("batch_", "data_", "deid_", "model_", "serve_", "synthetic_", "train_")


def test_k11_the_form_is_short_and_its_alphabetical_order_keeps_groups_together(package: Package) -> None:
    """Kubeflow's form sorts by name and shows no description."""
    assert len(package.parameters) <= 22  # 23 without groups were too many to read
    for name in package.parameters:
        assert name in GROUPS or name.startswith(PREFIXES), name


def test_k11_the_outcome_of_a_run_is_an_output_at_the_top_level(package: Package) -> None:
    task = package.spec["root"]["dag"]["tasks"]["ended"]
    outputs = package.spec["components"][task["componentRef"]["name"]]["outputDefinitions"]
    assert outputs["parameters"]["Output"]["parameterType"] == "STRING"
    assert "report" in outputs["artifacts"]


@pytest.mark.parametrize("name", pipelines.NAMES)
def test_options_of_the_version_before_are_still_understood(name: str) -> None:
    inputs = pipelines.by_name(name).component_spec.inputs
    given = {new: old for new, old in PREVIOUS_NAMES.items() if new in inputs}
    assert len(given) > 5
    call = [word for old in given.values() for word in (f"--{old}", old)]
    assert vars(_parser(name, "run", {}).parse_args(call)) == given


def cores(request: str) -> float:
    return float(request[:-1]) / 1000 if request.endswith("m") else float(request)


def test_kubeflows_cache_never_answers_for_a_volume_that_may_have_changed(package: Package) -> None:
    for _, tasks in package.dags():
        for name, task in tasks.items():
            if package.spec["components"][task["componentRef"]["name"]].get("executorLabel"):
                assert not task.get("cachingOptions"), name


def test_no_step_asks_argo_to_retry_a_failing_program_because_it_does_not(package: Package) -> None:
    assert not [name for _, tasks in package.dags() for name, task in tasks.items() if "retryPolicy" in task]


def test_every_input_that_a_task_names_is_one_of_its_graph(package: Package) -> None:
    """Kubeflow's compiler leaves out some; the run then ends with "parent DAG does not have input parameter"."""
    for inputs, tasks in package.dags():
        given = {*inputs.get("parameters", {}), *inputs.get("artifacts", {})}
        for name, task in tasks.items():
            named = set(mentioned(task, "componentInputParameter", "componentInputArtifact"))
            executor = package.spec["components"][task["componentRef"]["name"]].get("executorLabel")
            named |= set(mentioned(package.platform.get(executor, {}), "componentInputParameter"))
            assert named <= given, name


def mentioned(value: Any, *keys: str) -> Iterator[str]:
    """Every text under one of `keys`, at any depth."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        if key in keys:
            yield inner
        else:
            yield from mentioned(inner, *keys)


def test_loops_go_over_lists_of_a_type(package: Package) -> None:
    """The items of an untyped list fail on the server."""
    for container in package.executors.values():
        assert not re.search(r"-> (list|List)\b(?!\[)", " ".join(container["command"]))
    for _, tasks in package.dags():
        loops = [task for task in tasks.values() if "parameterIterator" in task]
        assert all("inputParameter" in task["parameterIterator"]["items"] for task in loops)
        assert all(task["iteratorPolicy"]["parallelismLimit"] == 2 for task in loops)


def test_the_last_step_runs_whatever_became_of_the_others(package: Package) -> None:
    last = package.spec["root"]["dag"]["tasks"]["ended"]
    assert last["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert "taskFinalStatus" in last["inputs"]["parameters"]["status"]


def test_the_ui_is_given_pages_and_figures_to_show() -> None:
    assert shown_by("echo-view") >= {"Metrics", "ClassificationMetrics", "HTML", "Markdown"}


def shown_by(name: str) -> set[str]:
    """Kinds of artifacts that the steps of a pipeline put out."""
    return {
        output["artifactType"]["schemaTitle"].removeprefix("system.")
        for component in compiled(name).spec["components"].values()
        for output in component.get("outputDefinitions", {}).get("artifacts", {}).values()
    }


def compiled(name: str) -> Package:
    path = Path("build/pipelines") / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    Compiler().compile(pipelines.by_name(name), str(path))
    return Package(path)


def test_another_image_and_a_training_step_with_gpus_are_chosen_when_compiling(tmp_path: Path) -> None:
    image = "registry.example.org/heart/echoplane-worker@sha256:" + "0" * 64
    package = compiled_with(tmp_path, ECHOPLANE_IMAGE=image, ECHOPLANE_TRAIN_GPUS="2")
    assert {container["image"] for container in package.executors.values()} == {image}
    gpus = {
        name: one["resources"]["accelerator"]
        for name, one in package.executors.items()
        if "accelerator" in one["resources"]
    }
    assert list(gpus) == ["exec-train"]
    assert gpus["exec-train"]["resourceType"] == "nvidia.com/gpu"
    assert gpus["exec-train"]["resourceCount"] == "2"


def test_two_runs_under_one_root_do_not_take_each_others_folders(tmp_path: Path) -> None:
    (tmp_path / local.KFP_FOLDER).mkdir()
    with local._only_run(tmp_path), pytest.raises(ConfigError, match="another run works under this `root`"):
        local.run("echo-view", {"root": str(tmp_path)})
    assert (tmp_path / local.KFP_FOLDER).exists()


def test_help_of_a_run_lists_the_pipelines_own_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line(["run", "echo-view", "--help"])
    assert ended.value.code == 0
    assert "--deid-key-file" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--root", "/proc/DOE_JANE"], "`root` can't be made"),
        (["--data-split", "DOE_JANE"], "--data-split must be JSON"),
    ],
)
def test_a_wrong_call_is_told_in_one_line_without_what_was_given(
    options: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command_line(["run", "echo-view", *options]) == 2
    said = capsys.readouterr().err
    assert expected in said
    assert said.count("\n") == 1
    assert "DOE" not in said
