"""Results of files in memory as DICOM objects: what a client of the service saves beside its images.

Views of one study become one report; the masks and measures of a cine MR become objects of their own.
"""

import io
from collections.abc import Iterable, Sequence
from typing import Any

from pydicom.dataset import Dataset

from echoplane import structured_report, tasks
from echoplane.errors import ConfigError, InputError, NotAnImage
from echoplane.study.cine_files import cines_in, contents_in
from echoplane.study.dicom import damaged_file_errors, is_dicom, parse
from echoplane.study.expansion import expansion_budget
from echoplane.study.limits import Limits
from echoplane.study.study import Study
from echoplane.view_report import view_report

VIEWS = "views.dcm"
Part = tuple[int, bytes, Sequence[dict[str, Any]]]
"""Number of a file from 1, its content, and the service's answers to it."""
View = tuple[int, Dataset, dict[str, Any]]
"""Number of a file, its header, and the answer to it."""
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


def objects_of_answers(parts: Iterable[Part]) -> tuple[dict[str, bytes], list[str]]:
    """Returns DICOM files by name, and a sentence for each answer that none could be made of.

    The names are of this module alone, so that they identify nobody.
    """
    views: dict[tuple[str, str], list[View]] = {}
    objects = list[tuple[str, Dataset]]()
    left_out = list[str]()
    for number, content, answers in parts:
        try:
            with expansion_budget():
                for answer in answers:
                    if answer["files"]:
                        study = Study((), cines_in(content))
                        outputs = tasks.outputs(answer["task"])
                        made, warnings = outputs.objects_of_answer(answer, study, contents_in(content))
                        objects += made.items()
                        left_out += [f"file {number}: {warning}" for warning in warnings]
                    else:
                        image = _header(content)
                        key = str(image.StudyInstanceUID), str(image.PatientID)
                        views.setdefault(key, []).append((number, image, answer))
        except (ConfigError, InputError) as error:
            left_out.append(f"file {number}: {error}")
    for study_views in views.values():
        try:
            objects.append((VIEWS, _report(study_views)))
        except InputError as error:
            left_out.append(f"file {', '.join(str(number) for number, _, _ in study_views)}: {error}")
    numbered = enumerate(objects, start=1)
    return {f"{number:02d}-{name}": _as_file(one) for number, (name, one) in numbered}, left_out


def _header(content: bytes) -> Dataset:
    """Returns an image's header. Raises NotAnImage if it has none that a report can refer to."""
    if not is_dicom(content):
        raise NotAnImage("it has no DICOM header, which a report refers to.")
    with damaged_file_errors():
        image = parse(content, Limits())
        image.pop("PixelData", None)
        if not all(image.get(keyword) for keyword in UIDS):
            raise NotAnImage("its DICOM header lacks the UID of its study, series, instance or SOP class.")
        structured_report.make_evidence(image)
        return image


def _report(views: Sequence[View]) -> Dataset:
    with damaged_file_errors():
        return view_report([(image, answer) for _, image, answer in views])


def _as_file(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()
