"""The model registry: an MLflow server over HTTP, the source of truth for which bundle serves.

This module needs only mlflow-skinny; writing to the registry is in `registration`. A registered model is named after
its task. Aliases: `champion` serves, `previous` is the target of a rollback, `challenger` answers shadow traffic.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from echoplane.bundle import Bundle, read
from echoplane.errors import BundleError, ConfigError, RegistryUnavailable, chain

CHAMPION: Final = "champion"
PREVIOUS: Final = "previous"
CHALLENGER: Final = "challenger"
BUNDLE_TAG, RUN_TAG = "bundle_id", "evaluation_run"
EVALUATION_FOLDER = "evaluation"
"""Folder of a run's artifacts with the output of the evaluate stage."""
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # MLflow's default keeps retrying a dead server for minutes
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # the address may hold a password
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # its warnings concern git, pip and the user's name, which an image lacks; failures are exceptions
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "GIT_PYTHON_REFRESH": "quiet",
    # else the server refers its clients to the object store, which they may be unable to reach
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}
"""Defaults for MLflow's variables; a variable that is already set is kept."""
SERVER_ERROR = 500
"""Smallest of MLflow's statuses for a server, a database or an object store that is unavailable."""


@dataclass(frozen=True)
class Version:
    """One registered bundle: `name` is its task; `tags` has the runtime, precision and threads of its evaluation."""

    name: str
    number: str
    bundle_id: str
    tags: Mapping[str, str]


class Registry:
    """The registry at `tracking_uri`. Raises ConfigError if that is not the address of a server.

    Methods raise BundleError if the server does not answer. MLflow keeps one address per process, so a process can use
    only one registry.
    """

    def __init__(self, tracking_uri: str) -> None:
        if not tracking_uri.startswith(("http://", "https://")):
            raise ConfigError(
                "the MLflow tracking URI must be a server's http:// or https:// address: set MLFLOW_TRACKING_URI."
            )
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        import mlflow

        mlflow.set_tracking_uri(tracking_uri)
        self.client: Any = mlflow.MlflowClient(tracking_uri)

    def champion(self, task: str) -> Version | None:
        """Returns the version that serves `task`; None if nothing has been promoted."""
        return self.by_alias(task, CHAMPION)

    def by_alias(self, task: str, alias: str) -> Version | None:
        from mlflow.exceptions import MlflowException

        with answering():
            try:
                return _version(self.client.get_model_version_by_alias(task, alias))
            except MlflowException as error:
                # No such model, or a model without the alias, which MLflow calls an invalid parameter.
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise

    def by_number(self, task: str, number: str) -> Version:
        """Returns version `number` of a task's model. Raises BundleError if it does not exist."""
        with answering():
            return _version(self.client.get_model_version(task, number))

    def version_of(self, task: str, bundle_id: str) -> Version | None:
        """Returns the version that holds a bundle; None if it is not registered."""
        with answering():
            found = self.client.search_model_versions(f"name = '{task}' and tags.{BUNDLE_TAG} = '{bundle_id}'")
        return _version(min(found, key=lambda v: int(v.version))) if found else None

    def download(self, version: Version, folder: str | Path) -> Bundle:
        """Downloads a version's bundle to `folder`, completely or not at all. Raises BundleError if it is not the one
        registered.

        Anything already at `folder` is replaced.
        """
        folder = Path(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".download-") as temporary:
            found = self._download(f"models:/{version.name}/{version.number}/data", temporary)
            places = list(found.rglob("bundle.json"))
            if len(places) != 1:
                raise BundleError(f"version {version.number} of {version.name} holds {len(places)} bundles; 1 is due.")
            bundle = read(places[0].parent)
            if bundle.id != version.bundle_id:
                raise BundleError(
                    f"version {version.number} of {version.name} holds bundle {bundle.id[:12]}, "
                    f"its tag says {version.bundle_id[:12]}. Register it again."
                )
            shutil.rmtree(folder, ignore_errors=True)
            bundle.folder.rename(folder)
        return read(folder)

    def download_scores(self, version: Version, folder: Path) -> Path:
        """Downloads the scores.parquet of a version's evaluation into `folder` and returns its path."""
        return self.download_artifact(version.tags[RUN_TAG], f"{EVALUATION_FOLDER}/scores.parquet", folder)

    def download_artifact(self, run: str, path: str, folder: Path) -> Path:
        """Downloads one artifact of a run into `folder` and returns its path."""
        return self._download(f"runs:/{run}/{path}", str(folder))

    def _download(self, uri: str, folder: str) -> Path:
        import mlflow.artifacts

        with answering():
            return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Turns exceptions of MLflow and HTTP into a BundleError that never shows a password, which an address may hold.

    The error is a RegistryUnavailable if a retry may succeed.
    """
    import requests
    from mlflow.exceptions import MlflowException

    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else SERVER_ERROR
        kind = RegistryUnavailable if status >= SERVER_ERROR else BundleError
        raise kind(f"the MLflow server refused or did not answer: status {status}.") from error
    except requests.RequestException as error:
        raise RegistryUnavailable(f"{_server()} can't be reached ({type(error).__name__}).") from error
    except MlflowException as error:
        if any(isinstance(one, requests.ConnectionError | requests.Timeout) for one in chain(error)):
            raise RegistryUnavailable(f"{_server()} can't be reached.") from error
        kind = RegistryUnavailable if error.get_http_status_code() >= SERVER_ERROR else BundleError
        raise kind(f"the MLflow server refused or did not answer: {error.error_code}.") from error


def _server() -> str:
    """Returns "MLflow at HOST:PORT" without the user, password and path that its address may hold."""
    import mlflow

    address = urlsplit(mlflow.get_tracking_uri())
    return f"MLflow at {address.hostname}" + (f":{address.port}" if address.port else "")


def _version(version: Any) -> Version:
    return Version(version.name, str(version.version), version.tags.get(BUNDLE_TAG, ""), dict(version.tags))
