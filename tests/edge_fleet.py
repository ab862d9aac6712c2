"""Devices with their agents as processes, their publisher and their store as one thing, and a service that is asked."""

import threading
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import httpx

from echoplane.edge.fleet import Report
from echoplane.edge.rollout import place
from tests import dicom_files
from tests.edge_process import REPORTS, REPOSITORY, Box, Publisher
from tests.edge_site import TASK
from tests.minio_process import Store

ASK_S = 0.1
TENTH = 10
"""One in so many devices is killed in mid-download, or started while the store is away."""


class Fleet:
    """Devices with their agents, a publisher and a store, all below `folder`."""

    def __init__(self, folder: Path, store: Store, devices: int, poll_s: float) -> None:
        self.folder, self.store, self.publisher = folder, store, Publisher(folder, store)
        names = sorted((f"box-{number}" for number in range(devices)), key=place)
        settings = {"POLL_S": str(poll_s), "REPORTS": f"{store.endpoint}/{REPORTS}"}
        url, root_file = f"{store.endpoint}/{REPOSITORY}", self.publisher.root_file
        self.boxes = [Box(folder / name, name, url, root_file, **settings) for name in names]
        """Devices by their places: the one of the first ring is the first."""
        self._before, self._up = 0, True

    @property
    def names(self) -> list[str]:
        return [box.device for box in self.boxes]

    @property
    def tenth(self) -> list[Box]:
        """A tenth of the devices, at least one, without the first."""
        return self.boxes[1 : 1 + max(1, len(self.boxes) // TENTH)]

    @property
    def requests(self) -> int:
        """The number of the agents' requests that have reached the store: reading the repository, writing reports."""
        if not self._up:
            return self._before
        reading, writing = (REPOSITORY, "GetObject"), (REPORTS, "PutObject")
        return self._before + self.store.requests(*reading) + self.store.requests(*writing)

    def stop_store(self) -> None:
        self._before, self._up = self.requests, False
        self.store.stop()

    def start_store(self) -> None:
        self.store.start()
        self._up = True

    def serving(self, bundle: str) -> int:
        """The number of devices that serve `bundle`, whole."""
        return sum(box.bundle() == bundle for box in self.boxes)

    def reported(self, holds: Callable[[Report], bool]) -> int:
        """The number of devices whose last report is as `holds` says."""
        return sum(holds(report) for report in self.publisher.reports().values())

    def settled(self, bundle: str) -> int:
        """The number of devices that serve `bundle`, or of those that report so, if it is smaller."""
        return min(self.serving(bundle), self.reported(lambda report: reports_serving(report, bundle)))


class Asked:
    """A service that is asked for an answer all the time, from its first bundle on."""

    def __init__(self, url: str) -> None:
        self.answers, self.failures = list[str](), list[str]()
        self._url, self._end = f"{url}/v1/{TASK}", threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    @property
    def bundles(self) -> list[str]:
        """The bundles that answered, each time another one did."""
        return [bundle for bundle, _ in groupby(self.answers)]

    def close(self) -> None:
        self._end.set()
        self._thread.join()

    def _ask(self) -> None:
        clip = dicom_files.grey_clip()
        with httpx.Client(timeout=60, trust_env=False) as client:
            while not self._end.wait(ASK_S):
                try:
                    response = client.post(self._url, files={"file": ("clip.dcm", clip)})
                    if response.status_code == httpx.codes.OK:
                        self.answers.append(response.json()["model"]["bundle"])
                    elif self.answers:
                        self.failures.append(f"HTTP {response.status_code}")
                except httpx.HTTPError as error:
                    self.failures.append(type(error).__name__)


def reports_serving(report: Report, bundle: str) -> bool:
    """Returns True if a device reports that it should serve `bundle` and does."""
    task = report.tasks[TASK]
    return (task.state, task.bundle, task.wanted, report.problem) == ("serving", bundle, bundle, "")
