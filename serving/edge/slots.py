"""Bundles on disk by their id, and the links that the service reads.

A slot is complete from the moment its folder has its name. A task's link is replaced by one rename, so the service
finds a whole bundle behind it at every moment, also after a power cut. The bundle before it stays beside it.
"""

import contextlib
import os
import shutil
from pathlib import Path

import httpx
from tuf.api.exceptions import LengthOrHashMismatchError

from echoplane.errors import EchoplaneError
from serving.edge.download import download
from serving.edge.trust import Files

MIB = 1 << 20
PREVIOUS = ".previous"


class NoSpace(EchoplaneError):
    """Raised before a download that would not leave the reserve free."""


class Damaged(EchoplaneError):
    """Raised if a downloaded file is not the one that was signed; it is deleted."""


class Slots:
    """The folders `slots/`, `partial/` and `serving/` below `folder`."""

    def __init__(self, folder: Path, reserve_mib: int) -> None:
        self._slots, self._partial, self._links = folder / "slots", folder / "partial", folder / "serving"
        self._reserve_mib = reserve_mib
        for path in (self._slots, self._partial, self._links):
            path.mkdir(parents=True, exist_ok=True)

    def link(self, task: str) -> Path:
        """Returns the link that the service reads as the bundle folder of `task`."""
        return self._links / task

    def current(self, task: str) -> str | None:
        return self._pointed(self.link(task))

    def previous(self, task: str) -> str | None:
        return self._pointed(self._links / f"{task}{PREVIOUS}")

    def folder(self, bundle: str) -> Path:
        return self._slots / bundle

    def free_mib(self) -> int:
        return shutil.disk_usage(self._slots).free // MIB

    def ensure(self, files: Files, url: str, client: httpx.Client) -> Path:
        """Returns the slot of a bundle, downloaded and verified.

        Raises NoSpace before the download if it does not fit, Interrupted if it is cut, and Damaged if the content is
        not what was signed.
        """
        slot, partial = self.folder(files.bundle), self._partial / files.bundle
        if slot.is_dir():
            return slot
        partial.mkdir(exist_ok=True)
        self._check_space(files, partial)
        for name, target in files.targets.items():
            download(client, files.url(url, name), partial / name, target.length)
            self._verify(files, partial, name)
        _sync(partial)
        partial.replace(slot)
        _sync(self._slots)
        return slot

    def swap(self, task: str, bundle: str) -> None:
        """Makes the service read `bundle`; the bundle before it becomes the previous one."""
        current = self.current(task)
        if current and current != bundle:
            self._point(self._links / f"{task}{PREVIOUS}", current)
        self._point(self.link(task), bundle)

    def remove(self, bundle: str) -> None:
        """Deletes a slot or a partial download; a slot loses its name first, so it is never half a slot."""
        doomed = self._slots / f".{bundle}"
        with contextlib.suppress(FileNotFoundError):
            self.folder(bundle).replace(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
        shutil.rmtree(self._partial / bundle, ignore_errors=True)

    def collect(self, wanted: set[str]) -> None:
        """Deletes each bundle that neither serves, nor served before, nor is wanted, and what is half deleted."""
        kept = wanted | {bundle for path in self._links.iterdir() if (bundle := self._pointed(path))}
        for path in (*self._slots.iterdir(), *self._partial.iterdir()):
            if path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in kept:
                self.remove(path.name)

    def _check_space(self, files: Files, partial: Path) -> None:
        sizes = {path.name: path.stat().st_size for path in partial.iterdir()}
        missing = sum(max(0, target.length - sizes.get(name, 0)) for name, target in files.targets.items())
        needed_mib = missing / MIB + self._reserve_mib if missing else 0
        if needed_mib > self.free_mib():
            raise NoSpace(
                f"bundle {files.bundle[:12]} needs {missing / MIB:.0f} MiB and a reserve of {self._reserve_mib} MiB; "
                f"{self.free_mib()} MiB are free. Free some space on the device."
            )

    def _verify(self, files: Files, partial: Path, name: str) -> None:
        try:
            with (partial / name).open("rb") as file:
                files.targets[name].verify_length_and_hashes(file)
        except LengthOrHashMismatchError:
            (partial / name).unlink()
            raise Damaged(f"{name} of bundle {files.bundle[:12]} is not the file that was signed.") from None

    def _pointed(self, link: Path) -> str | None:
        """Returns the bundle behind a link if it is complete."""
        if not link.is_symlink():
            return None
        name = link.readlink().name
        return name if (self._slots / name / "bundle.json").is_file() else None

    def _point(self, link: Path, bundle: str) -> None:
        fresh = link.with_name(f".{link.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(Path("..") / "slots" / bundle)
        fresh.replace(link)
        _sync(link.parent)


def _sync(folder: Path) -> None:
    """Writes a folder's entries to disk, so that a rename survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
