"""DICOM objects of a cine MR from the service's answer to it, with the images' own files."""

import base64
from collections.abc import Iterable
from typing import Any

from pydicom.dataset import Dataset

from echoplane.study.masks import masks_in
from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation import Segmentation
from echoplane.tasks.cmr_segmentation.outputs.dicom import dicom_objects
from echoplane.tasks.cmr_segmentation.quality import Flag


def objects_of_answer(
    answer: dict[str, Any], study: Study, contents: Iterable[bytes]
) -> tuple[dict[str, Dataset], tuple[str, ...]]:
    """Returns segmentations and report of the study that the answer is about, by file name, and warnings.

    `contents` are those of the files that the study was read from. Raises an InputError if the answer's masks are not
    those of the study.
    """
    files = {name: base64.b64decode(content) for name, content in answer["files"].items()}
    details = answer["details"]
    found = Segmentation(
        label=answer["label"],
        confidence=answer["confidence"],
        warnings=tuple(answer["warnings"]),
        masks=masks_in(files, study),
        measures=details["measures"],
        ed=details["ed_phase"],
        es=details["es_phase"],
        flags=tuple(Flag(flag["name"], flag["sentence"], tuple(flag["concerns"])) for flag in details["flags"]),
    )
    return dicom_objects(found, study, contents)
