"""Finalises a bundle: bundle.json is written last and atomically, so a folder without it is no bundle."""

from pathlib import Path

import numpy as np

from echoplane.bundle.bundle import Golden, read
from echoplane.bundle.spec import FILES, GOLDEN, OPTIONAL, Contents, Spec
from echoplane.errors import BundleError
from echoplane.files import file_sha256, write_atomically


def seal(folder: Path, contents: Contents) -> str:
    """Writes bundle.json with the digests of the files in `folder` and returns the bundle's id.

    Raises BundleError if a file is missing. The same files and contents give the same id: no time is recorded.
    """
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise BundleError(f"{', '.join(missing)} must be there before a bundle is sealed.")
    optional = [name for name in OPTIONAL if (folder / name).is_file()]
    digests = {name: file_sha256(folder / name) for name in (*FILES, *optional)}
    spec = Spec(**contents.model_dump(), files=digests)
    write_atomically(folder / "bundle.json", spec.model_dump_json(indent=1, by_alias=True).encode())
    return read(folder).id


def write_golden(folder: Path, golden: Golden) -> None:
    np.savez(folder / GOLDEN, batch=golden.batch, output=golden.output, embedding=golden.embedding)
