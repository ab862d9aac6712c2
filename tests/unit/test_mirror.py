"""The list of images against what asks for them, and the script that copies them."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from kfp.compiler import Compiler

import pipelines
from components.image import IMAGE
from tests.unit.test_chart import SCENARIOS, containers, rendered

INFRA = Path(__file__).resolve().parents[2] / "infra"
SKOPEO = """\
#!/bin/sh
echo "$@" >>"$CALLS"
case $* in *"$FAILS"*) exit 1 ;; esac
while [ $# -gt 1 ]; do [ "$1" = --digestfile ] && printf sha256:feed >"$2"; shift; done
"""


def mirror(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = ["bash", str(INFRA / "mirror"), *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def listed(*groups: str) -> list[str]:
    return mirror("--list", *groups).stdout.split()


def test_what_the_chart_and_the_pipelines_run_is_listed_and_nothing_else_of_ours(tmp_path: Path) -> None:
    used = set()
    for scenario in SCENARIOS:
        objects = rendered(scenario, imageTag=IMAGE.split(":")[1], imageRegistry="")
        used |= {container["image"] for container in containers(objects)}
    for name in pipelines.NAMES:
        Compiler().compile(pipelines.by_name(name), str(tmp_path / "package.yaml"))
        used |= set(re.findall(r"^ *image: (\S+)$", (tmp_path / "package.yaml").read_text(), re.MULTILINE))
    assert used == set(listed("echoplane", "echoplane-variants", "minio", "triton"))


def test_the_installs_that_the_table_names_are_listed_at_its_versions() -> None:
    told = (INFRA / "images.txt").read_text()
    table = (INFRA / "README.md").read_text().splitlines()
    rows = [line.split(" | ") for line in table if re.search("`(kubectl apply|helm install) ", line)]
    assert len(rows) >= 4
    for what, version, *_ in rows:
        assert f"# {re.split(r', | [(]', what.removeprefix('| '))[0]} {version}:" in told


def test_every_image_has_a_tag_that_stays_and_a_place_of_its_own() -> None:
    images = listed()
    assert len(images) == len(set(images))
    assert [image for image in images if not re.search(r":[\w.-]+$", image) or image.endswith(":latest")] == []
    paths = [re.sub(r"^[^/]*\.[^/]*/", "", image) for image in images]
    assert len(set(paths)) == len(paths)


@pytest.fixture
def skopeo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name that only writes down how it was called, to the file returned."""
    program = tmp_path / "bin" / "skopeo"
    program.parent.mkdir()
    program.write_text(SKOPEO)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("FAILS", "no such image")
    monkeypatch.setenv("DIGESTS", str(tmp_path / "digests"))
    return tmp_path / "calls"


def test_images_keep_path_and_tag_and_are_written_down_by_digest(skopeo: Path, tmp_path: Path) -> None:
    done = mirror("registry.example.org/heart/", "kuberay", "echoplane", OURS="docker://build.example.org/")
    assert done.returncode == 0, done.stderr
    (tag,) = {image.split(":")[1] for image in listed("echoplane")}
    calls = skopeo.read_text()
    assert (
        f"docker://build.example.org/echoplane-worker:{tag} docker://registry.example.org/heart/echoplane-worker:{tag}"
        in calls
    )
    assert (tmp_path / "digests").read_text().splitlines()[-1] == (
        "quay.io/kuberay/operator:v1.7.0 registry.example.org/heart/kuberay/operator@sha256:feed"
    )


def test_a_site_without_internet_is_served_by_a_folder(skopeo: Path, tmp_path: Path) -> None:
    assert mirror(f"dir:{tmp_path}/disk", "kuberay").returncode == 0
    assert mirror("registry.example.org/heart/", "kuberay", FROM=f"dir:{tmp_path}/disk").returncode == 0
    out, back = skopeo.read_text().splitlines()
    folder = f"dir:{tmp_path}/disk/kuberay_operator_v1.7.0"
    assert out.endswith(f"docker://quay.io/kuberay/operator:v1.7.0 {folder}")
    assert back.endswith(f"{folder} docker://registry.example.org/heart/kuberay/operator:v1.7.0")


def test_what_fails_leaves_no_list_of_digests(skopeo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILS", "argoexec")
    assert mirror("registry.example.org/heart/", "kubeflow").returncode == 1
    assert not (tmp_path / "digests").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["registry.example.org/heart"], "usage"), ([], "usage"), (["r.example.org/", "argo"], "in: argo")],
)
def test_a_wrong_call_is_refused_in_words(skopeo: Path, arguments: list[str], words: str) -> None:
    done = mirror(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert not skopeo.exists()
