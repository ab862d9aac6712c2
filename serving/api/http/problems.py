"""Problem bodies (RFC 9457): a stable `type`, the problem, and what to do. They never hold a traceback, a file name or
patient data."""

import math
from collections.abc import Collection, Mapping
from http import HTTPStatus

from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from echoplane.errors import EchoplaneError
from echoplane.tasks import names
from serving.api.decoding.deadline import DeadlineReached
from serving.api.inference.answer import StudyRefused, TaskFailed
from serving.api.models.slots import NoModel

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:echoplane:problem:"


class ProblemBody(BaseModel):
    """Problem details of RFC 9457."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: str
    """Stable identifier. Its last part is bad-request, not-an-image, too-large, unsupported, unsupported-media-type,
    unusable-study, slow-upload, busy, unauthenticated, forbidden, rate-limit, access-unavailable, no-model,
    feedback-unavailable, history-unavailable, deadline, not-found, method or unexpected."""
    title: str
    """The HTTP status in words."""
    status: int
    """The HTTP status."""
    detail: str
    """Explanation: what is wrong, what was expected, and what to do."""
    request_id: str
    """Random id made by the service: quote it when you ask for help."""


class Problem(Exception):
    """Raised if a request, or one file of it, gets no answer. `kind` is the last part of the problem's type; `task` is
    known once a model is chosen."""

    task: str | None = None

    def __init__(self, status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail, self.headers = status, kind, detail, headers or {}

    def body(self, request_id: str) -> ProblemBody:
        title = HTTPStatus(self.status).phrase
        return ProblemBody(
            type=TYPE_PREFIX + self.kind, title=title, status=self.status, detail=self.detail, request_id=request_id
        )

    def response(self, request_id: str) -> Response:
        content = self.body(request_id).model_dump_json()
        return Response(content, self.status, dict(self.headers), MEDIA_TYPE)


def of_error(error: EchoplaneError) -> Problem:
    """Returns the problem for an error raised below `http`; an InputError's message holds no identity by contract."""
    if isinstance(error, StudyRefused):
        problem = Problem(error.error.status, error.error.kind, str(error))
        problem.task = error.task
        return problem
    if isinstance(error, DeadlineReached):
        return deadline(error.limit_s)
    if isinstance(error, NoModel):
        return no_model(error.task)
    problem = unexpected()
    problem.task = error.task if isinstance(error, TaskFailed) else None
    return problem


def bad_request(detail: str) -> Problem:
    return Problem(400, "bad-request", detail)


def too_large(limit_mib: int) -> Problem:
    return Problem(413, "too-large", f"the body is larger than {limit_mib} MiB. Send one clip at a time.")


def too_large_text(limit_bytes: int) -> Problem:
    return Problem(413, "too-large", f"the body is larger than {limit_bytes} bytes.")


def unsupported_media_type(
    detail: str = "send multipart/form-data with the field `file`, or a body of application/dicom.",
) -> Problem:
    return Problem(415, "unsupported-media-type", detail)


def slow_upload(limit_s: float) -> Problem:
    return Problem(408, "slow-upload", f"the body did not arrive within {limit_s:g} s.")


def stalled_upload(min_kib_s: float) -> Problem:
    return Problem(408, "slow-upload", f"the body arrived at less than {min_kib_s:g} KiB/s.")


def busy() -> Problem:
    detail = "the service answers as many studies as it can; try again in a second."
    return Problem(429, "busy", detail, {"Retry-After": "1"})


def unauthenticated() -> Problem:
    detail = "the request has no valid access token; send `Authorization: Bearer TOKEN`."
    return Problem(401, "unauthenticated", detail, {"WWW-Authenticate": 'Bearer realm="echoplane"'})


def needs_authentication() -> Problem:
    detail = (
        "no authentication is configured, so only clients on the service's own machine are answered, under the name "
        "localhost or 127.0.0.1. Set "
        "ECHOPLANE_TOKEN_FILE or ECHOPLANE_OIDC_ISSUER, or ECHOPLANE_ALLOW_UNAUTHENTICATED=true."
    )
    return Problem(403, "forbidden", detail)


def forbidden(roles: Collection[str]) -> Problem:
    return Problem(403, "forbidden", f"the token's role(s), {', '.join(sorted(roles)) or 'none'}, do not allow this.")


def rate_limit(wait_s: float) -> Problem:
    seconds = math.ceil(wait_s)
    detail = f"the token has sent too many requests; try again in {seconds} s."
    return Problem(429, "rate-limit", detail, {"Retry-After": str(seconds)})


def access_unavailable() -> Problem:
    detail = "access tokens cannot be checked now; the service's log says why."
    return Problem(503, "access-unavailable", detail, {"Retry-After": "5"})


def no_model(task: str) -> Problem:
    problem = Problem(503, "no-model", f"no model of {task} is loaded yet; see /v1/models.", {"Retry-After": "5"})
    problem.task = task
    return problem


def feedback_unavailable(detail: str) -> Problem:
    return Problem(503, "feedback-unavailable", detail)


def history_unavailable() -> Problem:
    detail = "Prometheus gives no history now; check that it runs and that ECHOPLANE_PROMETHEUS_URL is its address."
    return Problem(503, "history-unavailable", detail, {"Retry-After": "15"})


def deadline(limit_s: float) -> Problem:
    return Problem(504, "deadline", f"no answer within {limit_s:g} s; the service is busy or the study is very large.")


def unexpected() -> Problem:
    return Problem(500, "unexpected", "the service failed. The request id is in its log.")


def of_status(status: int, headers: Mapping[str, str] | None = None) -> Problem:
    """Describes a request that the router refuses: an unknown path, or a wrong method with `Allow` in `headers`."""
    nothing = f"there is nothing here. Tasks are {', '.join(names())}; /v1/models lists those served. See /docs."
    kinds = {404: ("not-found", nothing), 405: ("method", "wrong method; see /docs.")}
    kind, detail = kinds.get(status, ("bad-request", "the request is not understood; see /docs."))
    return Problem(status, kind, detail, headers)
