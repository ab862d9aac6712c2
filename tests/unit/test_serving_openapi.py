"""The OpenAPI document against the service: schemathesis makes valid and invalid requests, and judges the answers."""

import io
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import hypothesis
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, strategies
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from echoplane.settings import ServingSettings
from echoplane.tokens import ROLES, change_tokens, new_token
from serving.api.http.pages import OPEN_PATHS
from serving.api.models.slots import Slot
from serving.api.models.sources import FolderSource
from tests import dicom_files as dicom
from tests.serving_app import Asking, tiny_slot
from tests.tiny_cine import beating_heart, make_tiny_cine_bundle, slice_file

ECHO, CINE = "echo-view-video", "cmr-segmentation"
UPLOADS = (*(f"/v1/{task}" for task in (ECHO, CINE)), f"/v1/explain/{ECHO}")
UPLOADS += ("/v1/study", "/v1/dicom", "/v1/frames")
OPEN = ("/livez", "/readyz")
METHODS = dict.fromkeys((*UPLOADS, "/v1/feedback"), "POST")
METHODS |= dict.fromkeys(("/v1/history", "/v1/models", "/metrics", "/openapi.json", "/docs", *OPEN), "GET")

CHECKS = [
    *(not_a_server_error, status_code_conformance, content_type_conformance),
    *(response_headers_conformance, response_schema_conformance),
    *(unsupported_method, allow_header_conformance, ignored_auth),
]
TIMEOUT_S = 200
"""Of one request, and the service's deadline: nothing is late on a machine that does much else."""
EXAMPLES = 15
"""Random requests of each operation that are valid, and as many that are not."""


@pytest.fixture(scope="module")
def slots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Slot]]:
    folder = tmp_path_factory.mktemp("bundles")
    cine = Slot(CINE, FolderSource(make_tiny_cine_bundle(folder / "cine")), {})
    cine.refresh()
    with tiny_slot(folder) as echo:
        yield {ECHO: echo, CINE: cine}
    cine.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Returns a clip, a cine MR in a zip, and files that are neither."""
    folder, archive = tmp_path_factory.mktemp("cine"), io.BytesIO()
    pictures_TZHW, _ = beating_heart(phases=4, slices=3)
    with zipfile.ZipFile(archive, "w") as target:
        for t, z in np.ndindex(*pictures_TZHW.shape[:2]):
            slice_file(folder, "slice", 9.0 * z, 40.0 * t, pictures_TZHW[t, z], PatientID="P1")
            target.write(folder / "slice", f"{t}-{z}")
    clip = dicom.jpeg_clip(dicom.moving_disc(6, 64, 64))
    return [clip, archive.getvalue(), clip[: len(clip) // 2], b"no image", b""]


@pytest.fixture(scope="module")
def service(slots: dict[str, Slot], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Asking, str]]:
    """Yields the service and a token of all roles."""
    folder = tmp_path_factory.mktemp("service")
    token, entry = new_token("tester", "lakeside", ROLES)
    change_tokens(folder / "tokens", add=entry)
    settings = ServingSettings(
        token_file=str(folder / "tokens"),
        prediction_log=str(folder / "log"),
        requests_per_minute=1_000_000,
        deadline_s=TIMEOUT_S,
    )
    ask = Asking(slots, settings)
    yield ask, token
    ask.service.close()


@pytest.fixture(scope="module", autouse=True)
def known_formats(files: list[bytes]) -> None:
    """Tells schemathesis what files to send."""
    schemathesis.openapi.format("binary", strategies.sampled_from(files) | strategies.binary(max_size=64))
    schemathesis.openapi.media_type("application/dicom", strategies.sampled_from(files))


@pytest.fixture(scope="module")
def schema(service: tuple[Asking, str]) -> BaseSchema:
    return schema_of(*service)


def schema_of(ask: Asking, token: str | None) -> BaseSchema:
    loaded = schemathesis.openapi.from_dict(ask("GET", "/openapi.json", token).json(), config=SchemathesisConfig())
    loaded.app = ask.app
    return loaded


def random_cases(operation: APIOperation, mode: GenerationMode, count: int) -> list[Case]:
    """Returns at most `count` requests, the same in each run."""
    found: list[Case] = []

    @hypothesis.settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(operation.as_strategy(generation_mode=mode))
    def collect(case: Case) -> None:
        found.append(case)

    collect()
    return found


def boundary_cases(operation: APIOperation) -> list[Case]:
    """Returns requests with values at the document's limits, others with one fault each, and unknown methods."""
    config = operation.schema.config.generation
    return list(
        operation.schema.iter_coverage_cases(operation, generation_modes=list(GenerationMode), generation_config=config)
    )


def good_cases(operation: APIOperation, files: list[bytes]) -> list[Case]:
    """Returns requests of which one at least has an answer."""
    if operation.path in UPLOADS:
        return [operation.Case(body=content, media_type="application/dicom") for content in files]
    if operation.path == "/v1/feedback":
        body = {"request_id": "0123456789abcdef", "task": ECHO, "label": "a2c"}
        return [operation.Case(body=body, media_type="application/json")]
    return [operation.Case()]


def judged(cases: Sequence[Case], token: str | None) -> Counter[int]:
    """Returns how often each status came. Raises FailureGroup if an answer is not as the document says."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answers = [case.call_and_validate(headers=headers, checks=CHECKS, timeout=TIMEOUT_S) for case in cases]
    return Counter(answer.status_code for answer in answers)


@pytest.mark.parametrize(("path", "method"), METHODS.items())
def test_valid_and_invalid_requests_are_answered_as_the_document_says(
    schema: BaseSchema, service: tuple[Asking, str], files: list[bytes], path: str, method: str
) -> None:
    operation, token = schema[path][method], service[1]
    assert judged(good_cases(operation, files), token)[200]
    assert not set(judged(boundary_cases(operation), token)) & {403, 404}
    judged(random_cases(operation, GenerationMode.POSITIVE, EXAMPLES), token)
    if path not in OPEN:  # a route without parameters has no invalid request
        judged(random_cases(operation, GenerationMode.NEGATIVE, EXAMPLES), token)


def test_without_a_token_every_route_but_health_is_refused_as_the_document_says(
    schema: BaseSchema, files: list[bytes]
) -> None:
    for path, method in METHODS.items():
        assert set(judged(good_cases(schema[path][method], files), None)) == {200 if path in OPEN else 401}, path


def test_without_authentication_the_document_asks_for_no_token(slots: dict[str, Slot], files: list[bytes]) -> None:
    ask = Asking(slots, ServingSettings(allow_unauthenticated=True, deadline_s=TIMEOUT_S))
    schema = schema_of(ask, None)
    for path, method in METHODS.items():
        assert "security" not in schema.raw_schema["paths"][path][method.lower()] or path in OPEN
        if path != "/v1/feedback":  # without a log, it's kept nowhere
            assert judged(good_cases(schema[path][method], files), None)[200], path
    ask.service.close()


def test_the_document_names_every_route_but_the_parts_of_the_pages(
    schema: BaseSchema, service: tuple[Asking, str]
) -> None:
    schema.validate()
    ask, _ = service
    assert {path: next(iter(methods)).upper() for path, methods in schema.raw_schema["paths"].items()} == METHODS
    routes = set(ask.app._paths)
    not_described = {f"/v1/explain/{CINE}"}  # it refuses every study: masks are not explained
    assert routes - OPEN_PATHS - not_described == set(METHODS)
    for path in OPEN_PATHS:
        assert ask("GET", path).status_code == 200, path


def references(part: Any) -> Iterator[str]:
    """Yields every reference in a document."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    for inner in part if isinstance(part, list) else ():
        yield from references(inner)


def test_every_reference_in_the_document_leads_to_a_schema(schema: BaseSchema) -> None:
    known = {f"#/components/schemas/{name}" for name in schema.raw_schema["components"]["schemas"]}
    assert {*references(schema.raw_schema)} <= known
