"""S13: what a cluster runs is named by digest, and the list of digests is signed."""

import json
import re
import subprocess
import sys
from pathlib import Path

import helm_python as helm
import pytest
import yaml

from echoplane.errors import ConfigError
from echoplane.signing import TrustedKeys, new_signing_key, read_trusted_keys, revoke, trust
from infra import signed_images
from tests.unit.test_chart import CHART, containers, rendered
from tests.unit.test_images import build

ROOT = Path(__file__).resolve().parents[2]
MINIO = CHART / "ci" / "minio-values.yaml"
DIGESTS = {"echoplane-serving": "a", "echoplane-mlflow": "b", "echoplane-worker": "c"}
LIST = (
    "".join(f"{name}:0123 registry.example.org/heart/{name}@sha256:{letter * 64}\n" for name, letter in DIGESTS.items())
    + f"quay.io/minio/minio:RELEASE registry.example.org/heart/minio/minio@sha256:{'d' * 64}\n"
)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A folder with a signing key and the file of keys that trusts it."""
    key = new_signing_key(tmp_path / "signing.key")
    trust(tmp_path / "trusted.json", key.public, "builder", ())
    return tmp_path


def run(keys: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "infra.signed_images", *arguments]
    variables = {
        "PATH": "/usr/bin:/bin",
        "ECHOPLANE_SIGNING_KEY_FILE": str(keys / "signing.key"),
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False)


def test_s13_a_signed_list_becomes_values_by_which_the_chart_runs_digests_alone(keys: Path) -> None:
    (keys / "images.digests").write_text(LIST)
    assert run(keys, "sign", str(keys / "images.digests")).returncode == 0
    made = run(keys, "values", str(keys / "images.digests.signed"), "--trusted", str(keys / "trusted.json"))
    assert made.returncode == 0, made.stderr
    values = yaml.safe_load(made.stdout)
    values["minio"]["enabled"] = True
    images = {container["image"] for container in containers(rendered(MINIO, **values))}
    assert images
    assert all(re.fullmatch(r"registry\.example\.org/heart/[a-z/-]+@sha256:[0-9a-f]{64}", image) for image in images)


def test_s13_the_chart_refuses_an_image_without_a_digest_if_digests_are_required() -> None:
    digests = {name: f"sha256:{letter * 64}" for name, letter in DIGESTS.items()}
    with pytest.raises(helm.HelmError, match=r"minio\.image .* names a tag"):
        rendered(MINIO, requireDigests=True, imageDigests=digests)
    del digests["echoplane-serving"]
    with pytest.raises(helm.HelmError, match="imageDigests has none for echoplane-serving"):
        rendered(MINIO, requireDigests=True, imageDigests=digests, minio={"enabled": False})


@pytest.mark.parametrize("change", ["content", "key", "signature", "revoked", "other task", "no list"])
def test_s13_a_list_that_was_changed_or_signed_by_another_is_refused(keys: Path, change: str) -> None:
    key = signed_images.read_signing_key({"ECHOPLANE_SIGNING_KEY_FILE": str(keys / "signing.key")})
    assert key is not None
    stated = json.loads(signed_images.signed(LIST, key))
    trusted = read_trusted_keys(str(keys / "trusted.json"))
    assert signed_images.verified(json.dumps(stated), trusted) == LIST
    if change == "content":
        stated["images"] = LIST.replace("a" * 64, "e" * 64)
    elif change == "key":
        trusted = TrustedKeys(schema=1)
    elif change == "signature":
        stated["signature"] = "AAAA"
    elif change == "revoked":
        revoke(keys / "trusted.json", key.id, "stolen")
        trusted = read_trusted_keys(str(keys / "trusted.json"))
    elif change == "other task":
        own = trusted.keys[0].model_copy(update={"tasks": ("echo-view-video",)})
        trusted = trusted.model_copy(update={"keys": (own,)})
    else:
        stated = {}
    with pytest.raises(signed_images.UntrustedImages):
        signed_images.verified(json.dumps(stated), trusted)


@pytest.mark.parametrize("content", ["", "echoplane-serving:1 registry.example.org/echoplane-serving:1\n"])
def test_s13_a_list_without_digests_is_not_signed(keys: Path, content: str) -> None:
    key = new_signing_key(keys / "other.key")
    with pytest.raises(ConfigError, match="infra/mirror"):
        signed_images.signed(content, key)


def test_s13_a_base_image_is_named_by_digest_or_refused(tmp_path: Path) -> None:
    (builder := tmp_path / "builder").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    builder.chmod(0o755)
    base = f"python@sha256:{'f' * 64}"
    build("serving", BUILDER=str(builder), BASE_IMAGE=base)
    assert f"--build-arg PYTHON={base}" in (tmp_path / "calls").read_text()
    for tag in ("python:3.11-slim-bookworm", "python@sha256:short", "python"):
        with pytest.raises(subprocess.CalledProcessError):
            build("serving", BUILDER=str(builder), BASE_IMAGE=tag)
