"""Results as DICOM: a structured report (PS3.16 TID 1500) of the views that the service found in a study.

Each answer is a measurement group (TID 1501) that refers to its image: the view as a coded evaluation (CID 12226), the
confidence as a measurement, and the model as the algorithm. The report belongs to the study and carries its patient.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import pydicom
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from echoplane import structured_report
from echoplane.study.pydicom_setup import set_up_pydicom

SERIES_NUMBER = 910
IMAGE_VIEW = codes.DCM.ImageView
CERTAINTY = codes.DCM.CertaintyOfFinding
PERCENT = Code("%", "UCUM", "%")
INDETERMINATE = codes.SCT.Indeterminate
PROCEDURE = Code("40701008", "SCT", "Echocardiography")
Answers = Sequence[tuple[Dataset, dict[str, Any]]]


def view_report(answers: Answers) -> Dataset:
    """Returns the report of the answers, pairs of an image's header and the service's answer to it, at least one; all
    images are of one study."""
    images = {str(image.SOPInstanceUID): image for image, _ in answers}
    groups = [_group(image, answer) for image, answer in answers]
    warnings = sorted({f"Warning: {text}" for _, answer in answers for text in answer["warnings"]})
    return hd.sr.ComprehensiveSR(
        evidence=list(images.values()),
        content=structured_report.content(PROCEDURE, groups, warnings),
        **structured_report.identification(SERIES_NUMBER, "Echocardiography views"),
    )


def image_header(path: Path) -> Dataset:
    """Returns the header of a DICOM file, with the attributes of a patient and study that a report needs."""
    set_up_pydicom()
    dataset = pydicom.dcmread(path, stop_before_pixels=True)
    structured_report.make_evidence(dataset)
    return dataset


def _group(image: Dataset, answer: dict[str, Any]) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    model = answer["model"]
    algorithm = hd.sr.AlgorithmIdentification(
        name=model["name"],
        version=model["version"],
        manufacturer=structured_report.MANUFACTURER,
        parameters=[f"bundle={model['bundle']}", f"runtime={model['runtime']}", f"precision={model['precision']}"],
    )
    confidence = answer.get("confidence")
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(uid=generate_uid(), identifier=answer["task"]),
        algorithm_id=algorithm,
        qualitative_evaluations=[hd.sr.QualitativeEvaluation(IMAGE_VIEW, _view(answer))],
        measurements=[hd.sr.Measurement(CERTAINTY, round(100 * confidence, 1), PERCENT)] if confidence else None,
        source_images=[hd.sr.SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID)],
    )


def _view(answer: dict[str, Any]) -> Code:
    """Returns the code of the view, or `Indeterminate` if the model cannot tell."""
    code = answer.get("code")
    return Code(code["value"], code["scheme"], code["meaning"]) if code else INDETERMINATE
