"""python-tuf decides which plan and which files are valid: signed by enough keys, not older than what was seen, not
expired. Nothing else of the repository is believed."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import httpx
from tuf.api.exceptions import DownloadError, DownloadHTTPError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import Metadata, TargetFile, Timestamp
from tuf.ngclient import FetcherInterface, Updater

from echoplane.bundle.spec import OPTIONAL
from echoplane.edge.rollout import Plan, read_plan
from echoplane.errors import EchoplaneError

CLOCK_SLACK = timedelta(hours=1)
BUNDLE = "bundle.json"
OPTIONAL_FILES = (*OPTIONAL, "evaluation.json")
MAX_FETCH_BYTES = 8 << 20
"""Maximum size of one file of metadata or one plan; python-tuf applies its own, which are lower, afterwards."""
MAX_FETCH_S = 300.0
"""Maximum time for one such file: each piece is waited for anew, so a server that sends slowly would hold the agent."""


class Untrusted(EchoplaneError):
    """Raised if the repository's metadata is refused or out of reach; the device keeps what it has."""


@dataclass(frozen=True)
class Files:
    """Verified description of a bundle's files: name to TUF target, whose length and hashes a download must have."""

    bundle: str
    targets: dict[str, TargetFile]

    def url(self, base: str, name: str) -> str:
        return f"{base.rstrip('/')}/targets/bundles/{self.bundle}/{self.targets[name].hashes['sha256']}.{name}"


class HttpxFetcher(FetcherInterface):
    """Fetches metadata with the client of the agent, so that token and certificates are the same as of downloads."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def _fetch(self, url: str) -> Iterator[bytes]:
        until_s, content = time.monotonic() + MAX_FETCH_S, bytearray()
        with self._client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response:
            if response.status_code != httpx.codes.OK:
                raise DownloadHTTPError("the repository refused a file", response.status_code)
            for piece in response.iter_raw():  # not inflated: a small answer could become any size
                content += piece
                if len(content) > MAX_FETCH_BYTES or time.monotonic() > until_s:
                    raise DownloadError("the repository sends more, or more slowly, than it may")
        return iter([bytes(content)])


class Trust:
    """Verified view of the repository. `root` is the root metadata that was put on the device at set-up."""

    def __init__(self, folder: Path, url: str, root: bytes, client: httpx.Client) -> None:
        self._folder, self._url, self._root, self._client = folder, url.rstrip("/"), root, client

    def plan(self, channel: str, not_before: datetime | None) -> tuple[Plan, "View"]:
        """Returns the channel's plan and the files it may name. Raises Untrusted if anything fails verification.

        `not_before` is the newest time known to have passed: metadata that had expired by then is refused although a
        clock that was set back would accept it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            updater = Updater(
                str(self._folder),
                f"{self._url}/metadata/",
                str(self._folder / "targets"),
                f"{self._url}/targets/",
                fetcher=HttpxFetcher(self._client),
                bootstrap=self._root,
            )
            updater.refresh()
            self._check_expiry(not_before)
            info = updater.get_targetinfo(f"plans/{channel}.json")
            if info is None:
                raise Untrusted(f"the repository has no plan for channel {channel}.")
            return read_plan(Path(updater.download_target(info)).read_bytes()), View(updater)
        except ExpiredMetadataError:
            raise Untrusted(
                "the repository's metadata has expired by this device's clock; it is not followed."
            ) from None
        except DownloadError as error:
            raise Untrusted(f"the repository is out of reach ({type(error).__name__}).") from None
        except RepositoryError as error:
            raise Untrusted(f"the repository's metadata is refused ({type(error).__name__}).") from None

    def _check_expiry(self, not_before: datetime | None) -> None:
        timestamp = Metadata[Timestamp].from_file(str(self._folder / "timestamp.json")).signed
        if not_before and timestamp.is_expired(not_before - CLOCK_SLACK):
            raise Untrusted("the repository's metadata had expired before this device's clock was set back.")


class View:
    """The files that the verified metadata lists."""

    def __init__(self, updater: Updater) -> None:
        self._updater = updater

    def files(self, bundle: str, names: tuple[str, ...]) -> Files:
        """Returns the files of a bundle. Raises Untrusted if the offline keys have not signed one of them."""
        found = {}
        for name in (BUNDLE, *names, *OPTIONAL_FILES):
            try:
                info = self._updater.get_targetinfo(f"bundles/{bundle}/{name}")
            except (RepositoryError, DownloadError) as error:
                raise Untrusted(f"the repository's metadata is refused ({type(error).__name__}).") from None
            if info is not None:
                found[name] = info
            elif name not in OPTIONAL_FILES:
                raise Untrusted(f"{name} of bundle {bundle[:12]} is not signed by the offline keys.")
        return Files(bundle, found)
