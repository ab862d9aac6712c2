"""Rows of the prediction log."""

from echoplane.monitoring.device import device_of
from echoplane.monitoring.prediction_log import Row, now, packed
from echoplane.runtimes import Answer
from echoplane.study.study import Study
from echoplane.tasks.task import probabilities_of
from serving.api.models.slots import Model


def row_of(study: Study, answer: Answer, model: Model, request_id: str, site: str, timings_ms: dict[str, float]) -> Row:
    """Returns the row of one answered study, without patient, UID or any free text of the file."""
    manufacturer, device_model = device_of(study)
    return Row(
        time=now(),
        request_id=request_id,
        task=model.bundle.spec.task,
        model_version=model.version,
        bundle=model.bundle.id,
        site=site,
        manufacturer=manufacturer,
        device_model=device_model,
        label=answer.result.label,
        confidence=answer.result.confidence,
        probabilities=tuple(round(value, 5) for value in probabilities_of(answer.result).values()),
        features=dict(answer.features),
        embedding=packed(answer.embedding),
        timings_ms=timings_ms,
        warnings=len(answer.result.warnings),
    )
