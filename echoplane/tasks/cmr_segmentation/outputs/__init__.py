"""Output files of a measured cine MR study: measures, masks, a report, and DICOM objects."""

from collections.abc import Iterable
from typing import Any

from echoplane.study.study import Study
from echoplane.tasks.cmr_segmentation.outputs.files import write_measures
from echoplane.tasks.cmr_segmentation.outputs.report import write_report


def objects_of_answer(
    answer: dict[str, Any], study: Study, contents: Iterable[bytes]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns segmentations and report of the cine that the service's answer is about, by file name, and warnings.

    `contents` are those of the files that the study was read from. Raises an InputError if the masks do not fit it.
    """
    from echoplane.tasks.cmr_segmentation.outputs import answered  # here, because highdicom takes seconds to import

    return answered.objects_of_answer(answer, study, contents)


__all__ = ["objects_of_answer", "write_measures", "write_report"]
