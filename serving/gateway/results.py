"""Results of a study as files, ready to be sent: what is made of the service's answers."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from echoplane import tasks
from echoplane.errors import ConfigError, InputError
from echoplane.files import replacing
from echoplane.study.cine_files import contents_of, read_cines
from echoplane.study.study import Study
from serving.gateway.store import Instance, Store, new_id, sync_folder
from serving.gateway.work_errors import GiveUp

Part = Sequence[Instance]
"""Instances that the service was asked about at once."""


def make_results(store: Store, answers: Sequence[tuple[Part, dict[str, Any]]]) -> list[Path]:
    """Writes the objects of the answers, each about one part of a study, durably into the store's folder of results.

    Views of single instances go into one report; an answer with files becomes objects of its own. Raises GiveUp if
    an object cannot be made.
    """
    from echoplane.view_report import image_header, view_report  # here, because highdicom takes a second to import

    views = [(part[0], answer) for part, answer in answers if len(part) == 1 and answer["probabilities"]]
    objects = [view_report([(image_header(one.path), answer) for one, answer in views])] if views else []
    for part, answer in answers:
        if answer["files"]:
            objects += _objects_of_files(store, part, answer)
    return [_written(store, each) for each in objects]


def _objects_of_files(store: Store, part: Part, answer: dict[str, Any]) -> list[Dataset]:
    """Returns the objects of an answer with files. The task that makes them reads the study's instances from a folder
    of their own."""
    with tempfile.TemporaryDirectory(dir=store.scratch) as folder:
        for number, instance in enumerate(part):
            os.link(instance.path, Path(folder) / f"{number:05d}")
        try:
            study = Study((), read_cines(Path(folder)))
            outputs = tasks.outputs(answer["task"])
            objects, warnings = outputs.objects_of_answer(answer, study, contents_of(Path(folder)))
        except (ConfigError, InputError) as error:
            raise GiveUp(f"the result cannot be written as DICOM: {error}") from None
    if not objects:
        raise GiveUp(f"the result cannot be written as DICOM: {'; '.join(warnings)}")
    return list(objects.values())


def _written(store: Store, result: Dataset) -> Path:
    path = store.results / f"{new_id()}{new_id()}"
    with replacing(path, 0o600) as file:
        result.save_as(file, enforce_file_format=True)
    sync_folder(store.results)
    return path
