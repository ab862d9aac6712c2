"""DICOM objects of a cine MR from the service's answer: the masks and measures come over HTTP, the images from disk."""

import base64
import tempfile
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset

from echoplane.cmr.dicom import dicom_objects
from echoplane.study.cine_files import FOUND, read_cines
from echoplane.study.masks import read_edited_masks
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation import Segmentation
from echoplane.tasks.cmr_segmentation.quality import Flag


def objects_of_answer(answer: dict[str, Any], source: Path) -> tuple[list[Dataset], tuple[str, ...]]:
    """Returns segmentations and report of the cine in folder `source`, which the answer is about, and warnings.

    Raises an InputError if the folder holds no such cine.
    """
    study = Study((), read_cines(source))
    with tempfile.TemporaryDirectory() as folder:  # masks alone, which show no patient
        for name in FOUND.values():
            if content := answer["files"].get(name):
                (Path(folder) / name).write_bytes(base64.b64decode(content))
        masks = read_edited_masks(Path(folder), study)
    details = answer["details"]
    found = Segmentation(
        label=answer["label"],
        confidence=answer["confidence"],
        warnings=tuple(answer["warnings"]),
        masks=masks,
        measures=details["measures"],
        ed=details["ed_phase"],
        es=details["es_phase"],
        flags=tuple(Flag(flag["name"], flag["sentence"], tuple(flag["concerns"])) for flag in details["flags"]),
    )
    objects, warnings = dicom_objects(found, study, source)
    return list(objects.values()), warnings
