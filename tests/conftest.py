"""For all tests: keys and audit log of the user are not touched."""

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
