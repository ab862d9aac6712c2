"""Groups files into studies: each file alone for a task that answers files, otherwise the files of one folder."""

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

from echoplane.storage import Stored
from echoplane.tasks import by_name

ALONE = (".zip",)
NIFTI = (".nii", ".nii.gz")
PLANES = ("sa", "la_2ch", "la_4ch")
"""Names of NIfTI files that are planes of one study, as the UK Biobank names them."""
WHOLE = "."
"""Name of a study whose files lie directly in the root of the given folder."""


class Files(BaseModel):
    """One study: its name in the tables (a file, or a folder whose files belong together) and its files."""

    model_config = ConfigDict(frozen=True)

    name: str
    files: tuple[str, ...]
    state: str
    """Sizes and modification times of the files; a study whose state differs is answered again."""


def studies_in(files: Iterable[Stored], task: str) -> list[Files]:
    """Returns the studies among `files`, by name."""
    groups: dict[str, list[Stored]] = {}
    for file in files:
        groups.setdefault(_study(file.name, task), []).append(file)
    return [_files(name, group) for name, group in sorted(groups.items())]


def _study(name: str, task: str) -> str:
    folder, _, file = name.rpartition("/")
    stands_alone = file.endswith(NIFTI) and file.split(".")[0] not in PLANES
    if by_name(task).STUDY == "file" or file.endswith(ALONE) or stands_alone:
        return name
    return folder or WHOLE


def _files(name: str, group: list[Stored]) -> Files:
    state = " ".join(f"{one.size}:{one.changed_ns}" for one in group)
    return Files(name=name, files=tuple(one.name for one in group), state=state)
