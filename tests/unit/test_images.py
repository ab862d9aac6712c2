"""The Dockerfiles and the script that builds them; `make test-cluster` builds and runs the images themselves."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "infra" / "images"
NAMES = ("serving", "mlflow", "worker")


def instructions(name: str) -> list[str]:
    """Without comments, a line for each instruction."""
    text = (IMAGES / f"{name}.Dockerfile").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def build(*arguments: str, **environment: str) -> list[str]:
    outcome = subprocess.run(
        ["bash", str(IMAGES / "build"), *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return outcome.stdout.splitlines()


@pytest.mark.parametrize("name", NAMES)
def test_an_image_runs_as_a_numbered_user_and_is_labelled(name: str) -> None:
    (user,) = (line.split()[1] for line in instructions(name) if line.startswith("USER"))
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), "a number: Kubernetes can't tell that a name is not root"
    (label,) = (line for line in instructions(name) if line.startswith("LABEL"))
    for wanted in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{wanted}=" in label


@pytest.mark.parametrize("name", NAMES)
def test_s13_everything_that_an_image_installs_is_pinned_by_its_digest(name: str) -> None:
    lines = (ROOT / "requirements" / f"{name}.txt").read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith(("#", " "))]
    assert packages
    pinned = r"[\w.\[\],-]+==[\w.+!]+( ;[^#]*?)?( --hash=sha256:[0-9a-f]{64})+"
    assert [line for line in packages if not re.fullmatch(pinned, line)] == []


def test_s15_no_image_holds_av_and_the_network_is_made_without_it() -> None:
    for requirements in (ROOT / "requirements").glob("*.txt"):
        assert not re.search(r"^av==", requirements.read_text(), re.MULTILINE), requirements.name
    script = (
        "import sys; sys.modules['av'] = None\n"
        "from echoplane.tasks.view_video.learning import Network, network\n"
        "print(sum(weights.numel() for weights in network(Network()).parameters()) > 0)"
    )
    made = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert made.stdout == "True\n"


@pytest.mark.parametrize("name", ["worker", "triton", "edge"])
def test_an_image_that_holds_the_service_has_all_that_the_service_needs(name: str) -> None:
    wanted = (ROOT / "requirements" / "serving.txt").read_text().splitlines()
    assert set(wanted) <= set((ROOT / "requirements" / f"{name}.txt").read_text().splitlines())


@pytest.mark.parametrize("package", ["torch", "kfp", "ray", "kubernetes"])
def test_the_serving_image_has_nothing_of_training_or_pipelines(package: str) -> None:
    lines = (ROOT / "requirements" / "serving.txt").read_text().splitlines()
    assert not [line for line in lines if re.match(rf"{package}\W", line)]
    assert not [line for line in instructions("serving") if re.match(r"COPY (components|pipelines|\.)\b", line)]


def test_the_variants_of_the_serving_image_are_built_from_its_file_with_their_own_requirements(tmp_path: Path) -> None:
    (builder := tmp_path / "builder").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    builder.chmod(0o755)
    build("serving-triton", "edge", BUILDER=str(builder))
    calls = (tmp_path / "calls").read_text().splitlines()
    assert all("infra/images/serving.Dockerfile" in call for call in calls)
    wanted = [re.search(r"REQUIREMENTS=(\w+)", call)[1] for call in calls]
    assert wanted == ["triton", "edge"]
    assert all((ROOT / "requirements" / f"{name}.txt").is_file() for name in wanted)


def test_all_images_of_one_build_have_the_tag_of_their_content() -> None:
    (tag,) = build("--tag")
    assert re.fullmatch(r"[0-9a-f]{12}", tag)
    assert build(BUILDER="true") == [f"echoplane-{name}:{tag}" for name in NAMES]
    assert build("serving", BUILDER="true", IMAGE_REGISTRY="registry.example.org/heart/") == [
        f"registry.example.org/heart/echoplane-serving:{tag}"
    ]


def test_k10_a_worker_without_cuda_has_its_own_tag_and_the_page_says_how_to_use_it() -> None:
    (tag,) = build("--tag")
    assert build("worker", BUILDER="true", GPU="none") == [f"echoplane-worker:{tag}-cpu"]
    page = " ".join((ROOT / "docs" / "kubernetes.md").read_text().split())
    assert "(`make images GPU=none`) has the tag `TAG-cpu`: name that in ECHOPLANE_IMAGE" in page


def test_a_failed_build_is_told() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        build("serving", BUILDER="false")
