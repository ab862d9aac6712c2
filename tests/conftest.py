"""For all tests: keys and audit log of the user are not touched, and no module inherits another's MLflow."""

import os
import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def no_own_keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hides the keys that a local pipeline of another module has made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session", autouse=True)
def own_folders() -> Iterator[None]:
    """Gives the tests, and the programs that they start, configuration and state folders of their own."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", f"{folder}/config")
        patch.setenv("XDG_STATE_HOME", f"{folder}/state")
        for name in ("SIGNING_KEY", "SIGNING_KEY_FILE", "TRUSTED_KEYS", "ALLOW_UNSIGNED_MODELS", "AUDIT_LOG"):
            patch.delenv(f"ECHOPLANE_{name}", raising=False)
        yield


@pytest.fixture(scope="module", autouse=True)
def no_mlflow_of_others() -> Iterator[None]:
    """Restores MLflow's variables: its client writes runs, models and addresses of one server there, and a program that
    a later module starts would look for them at another."""
    before = _mlflow()
    yield
    for name in _mlflow().keys() - before.keys():
        del os.environ[name]
    os.environ |= before


def _mlflow() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if "MLFLOW" in name}
