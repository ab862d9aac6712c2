"""Routes around the answer: explanation, feedback, a study as lines, and requests that are sent again."""

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from echoplane.errors import UnusableStudy
from echoplane.monitoring.compaction import logged_rows
from echoplane.monitoring.feedback import read_feedback
from echoplane.runtimes import InferenceSettings, Outputs
from echoplane.settings import ServingSettings
from echoplane.study.study import Instance, Pixels, Region, Study
from echoplane.tokens import change_tokens, new_token
from serving.api.inference import explain
from serving.api.inference.answer import StudyRefused
from serving.api.models.slots import Slot
from tests import dicom_files as dicom
from tests.serving_app import Asking, posted, tiny_slot

TASK = "echo-view-video"
EXPLAIN = f"/v1/explain/{TASK}"
CELL = (2, 5)
"""Cell of the finest grid that the model of `LooksAtOneCell` looks at."""


@pytest.fixture(scope="module")
def slot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slot]:
    with tiny_slot(tmp_path_factory.mktemp("bundle")) as slot:
        yield slot


@pytest.fixture
def ask(slot: Slot) -> Asking:
    return Asking(slot, ServingSettings(), host="127.0.0.1")


@dataclass
class LooksAtOneCell:
    """Double of a runtime: the first label's logit is the contrast inside CELL, and no other pixel matters."""

    settings = InferenceSettings()
    runs = 0

    def run(self, batch: np.ndarray) -> Outputs:
        self.runs += 1
        side = batch.shape[-1] // 8
        row, column = CELL
        part = batch[0, :, row * side : (row + 1) * side, column * side : (column + 1) * side].astype(np.float32)
        logits = np.zeros((1, 12), np.float32)
        logits[0, 0] = part.std() / 10
        return Outputs(logits, np.zeros((1, 1), np.float32))

    def close(self) -> None:
        pass


def textured_clip() -> Study:
    frames_THW = np.random.default_rng(0).integers(0, 255, (24, 128, 128), np.uint8)
    clip = Instance("x", "US", 24, 128, 128, Pixels(frames_THW), 40.0, (Region("tissue", 0, 0, 128, 128),))
    return Study((clip,))


def test_an_explanation_finds_the_one_part_that_the_model_looks_at(slot: Slot) -> None:
    assert slot.model is not None
    runtime = LooksAtOneCell()
    found = explain.explain(textured_clip(), replace(slot.model, runtime=runtime), budget_s=60)
    assert found.losses.shape == (8, 8)
    assert np.unravel_index(found.losses.argmax(), (8, 8)) == CELL
    assert found.losses[CELL] > 0.2
    elsewhere = np.delete(found.losses.ravel(), CELL[0] * 8 + CELL[1])
    assert np.abs(elsewhere).max() == 0
    assert found.label == next(label.name for label in slot.model.bundle.spec.labels)
    assert runtime.runs == 65


def test_an_explanation_takes_no_longer_than_its_budget() -> None:
    assert [explain.affordable_grid(1.0, budget_s) for budget_s in (64, 63, 20)] == [8, 6, 4]
    with pytest.raises(UnusableStudy, match="would take 16 s here; at most 15 s"):
        explain.affordable_grid(1.0, 15)


def test_a_blurred_cell_changes_nothing_outside_it(slot: Slot) -> None:
    assert slot.model is not None
    task, bundle = slot.model.bundle.task, slot.model.bundle
    prepared = task.preprocess(textured_clip(), bundle.preprocessing)
    for row, column, occluded in explain.occluded_batches(prepared, 6):
        changed_HW = (occluded != prepared.batch).any(axis=(0, 1))
        rows, columns = np.flatnonzero(changed_HW.any(axis=1)), np.flatnonzero(changed_HW.any(axis=0))
        side = prepared.batch.shape[-1] / 6
        assert rows.min() >= int(row * side)
        assert rows.max() < (row + 1) * side + 1
        assert columns.min() >= int(column * side)
        assert columns.max() < (column + 1) * side + 1


def test_the_explanation_of_a_file_names_its_answer_and_where_the_scan_lies(ask: Asking) -> None:
    body = ask("POST", EXPLAIN, **posted(dicom.jpeg_clip())).json()
    answer = ask("POST", f"/v1/{TASK}", **posted(dicom.jpeg_clip())).json()
    assert body["label"] == max(answer["probabilities"], key=answer["probabilities"].get)
    assert body["probability"] == pytest.approx(answer["confidence"], abs=1e-5)
    assert (len(body["losses"]), len(body["losses"][0])) == (8, 8)
    assert (body["input_rows"], body["input_columns"], body["corner"]) == (64, 64, [0, 0])
    assert body["model"] == answer["model"]
    refused = ask("POST", EXPLAIN, **posted(b"no image"))
    assert (refused.status_code, refused.json()["type"]) == (400, "urn:echoplane:problem:not-an-image")


def test_a_slow_model_is_not_explained(slot: Slot) -> None:
    ask = Asking(slot, ServingSettings(deadline_s=0.02), host="127.0.0.1")
    response = ask("POST", EXPLAIN, **posted(dicom.jpeg_clip()))
    assert response.status_code in (422, 504)


def feedback(**changes: object) -> dict:
    return {"json": {"request_id": "0123456789abcdef", "task": TASK, "label": "a2c"} | changes}


def test_feedback_is_kept_with_its_author_and_joins_the_answer(slot: Slot, tmp_path: Path) -> None:
    tokens, log = tmp_path / "tokens.json", tmp_path / "log"
    ask = Asking(slot, ServingSettings(token_file=str(tokens), prediction_log=str(log)))
    predict, entry = new_token("pacs", "lakeside", ("predict",))
    change_tokens(tokens, add=entry)
    reader, entry = new_token("reader-7", "lakeside", ("feedback",))
    change_tokens(tokens, add=entry)
    assert ask("GET", "/v1/models", reader).json()["feedback"] is True
    answer = ask("POST", f"/v1/{TASK}", predict, **posted(dicom.jpeg_clip())).json()
    given = feedback(request_id=answer["request_id"])
    assert ask("POST", "/v1/feedback", predict, **given).status_code == 403
    assert ask("POST", "/v1/feedback", None, **given).status_code == 401
    kept = ask("POST", "/v1/feedback", reader, **given)
    assert kept.json() == {"request_id": answer["request_id"], "task": TASK, "label": "a2c", "author": "reader-7"}
    ask("POST", "/v1/feedback", reader, **feedback(request_id=answer["request_id"], label="a4c"))
    ask.service.close()
    (row,) = logged_rows(log, TASK)
    (said,) = read_feedback(log, TASK)
    assert row.request_id == said.request_id
    assert (said.label, said.author, said.site) == ("a4c", "reader-7", "lakeside")


@pytest.mark.parametrize(
    ("sent", "status", "says"),
    [
        (feedback(label="Zyxwvut"), 400, "the label is none of those"),
        (feedback(task="Zyxwvut"), 400, "the task is none of those"),
        (feedback(request_id="Zyxwvut"), 400, "send JSON with request_id"),
        (feedback(comment="Zyxwvut Quetzalcoatl"), 400, "nothing else"),
        ({"content": b"{" * 100, "headers": {"content-type": "application/json"}}, 400, "send JSON"),
        ({"content": b" " * 5000, "headers": {"content-type": "application/json"}}, 413, "larger than 4096 bytes"),
        ({"content": b"{}", "headers": {"content-type": "text/plain"}}, 415, "send a body of application/json"),
    ],
)
def test_feedback_that_is_not_a_label_of_the_list_is_refused(
    slot: Slot, tmp_path: Path, sent: dict, status: int, says: str
) -> None:
    ask = Asking(slot, ServingSettings(prediction_log=str(tmp_path)), host="127.0.0.1")
    refused = ask("POST", "/v1/feedback", **sent)
    assert refused.status_code == status
    assert says in refused.json()["detail"]
    assert not [word for word in dicom.PLANTED if word in refused.text]
    assert list(read_feedback(tmp_path, TASK)) == []


def test_without_a_log_feedback_is_refused_and_the_page_can_know(ask: Asking) -> None:
    assert ask("GET", "/v1/models").json()["feedback"] is False
    refused = ask("POST", "/v1/feedback", **feedback())
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:echoplane:problem:feedback-unavailable")


def test_a_study_comes_as_lines_that_are_what_the_whole_answer_is(ask: Asking) -> None:
    contents = [dicom.jpeg_clip(), b"not an image", dicom.grey_clip()]
    files = [("file", (f"{dicom.PATIENT}.dcm", content)) for content in contents]
    whole = ask("POST", "/v1/study", files=files).json()
    streamed = ask("POST", "/v1/study", files=files, headers={"accept": "application/x-ndjson"})
    assert streamed.headers["content-type"].startswith("application/x-ndjson")
    *entries, end = [json.loads(line) for line in streamed.text.splitlines()]
    assert [entry["index"] for entry in entries] == [0, 1, 2]
    for entry, same in zip(entries, whole["files"], strict=True):
        assert bool(entry["answer"]) == bool(same["answer"])
        assert (entry["answer"] or {}).get("probabilities") == (same["answer"] or {}).get("probabilities")
        assert (entry["problem"] or {}).get("type") == (same["problem"] or {}).get("type")
    assert (end["entries"], end["request_id"]) == (3, streamed.headers["x-request-id"])
    assert ask.service.admission.places.taken == 0
    assert ask.service.admission.held_bytes == 0


def test_a_refused_study_is_a_problem_even_for_a_client_that_wants_lines(ask: Asking) -> None:
    refused = ask("POST", "/v1/study", content=b"", headers={"accept": "application/x-ndjson"})
    assert (refused.status_code, refused.headers["content-type"]) == (400, "application/problem+json")
    assert ask.service.admission.places.taken == 0


def test_a_request_that_is_sent_again_has_the_same_id_for_its_caller_alone(slot: Slot, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    ask, given = Asking(slot, ServingSettings(token_file=str(tokens))), {}
    for name in ("pacs", "other"):
        given[name], entry = new_token(name, "lakeside", ("predict",))
        change_tokens(tokens, add=entry)

    def id_of(name: str, key: str | None) -> str:
        headers = {} if key is None else {"idempotency-key": key}
        return ask("GET", "/v1/models", given[name], headers=headers).headers["x-request-id"]

    assert id_of("pacs", "k1") == id_of("pacs", "k1")
    assert len({id_of("pacs", "k1"), id_of("pacs", "k2"), id_of("other", "k1"), id_of("pacs", None)}) == 4
    assert id_of("pacs", None) != id_of("pacs", None)
    assert id_of("pacs", "k" * 200) != id_of("pacs", "k" * 200), "an overlong key counts as none"


def test_only_one_explanation_runs_at_a_time(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    release, ask = threading.Event(), Asking(slot, ServingSettings(), host="127.0.0.1")

    def blocked(*_: object) -> None:
        release.wait(10)
        raise StudyRefused(UnusableStudy("over"), TASK)

    monkeypatch.setattr("serving.api.http.explain.explain_file", blocked)

    async def both() -> list[int]:
        first = asyncio.create_task(ask.send("POST", EXPLAIN, **posted(dicom.jpeg_clip())))
        while ask.service.admission.places.taken == 0:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        second = await ask.send("POST", EXPLAIN, **posted(dicom.jpeg_clip()))
        release.set()
        return [(await first).status_code, second.status_code]

    assert ask.loop.run_until_complete(both()) == [422, 429]


def test_the_interfaces_page_shows_a_request_for_every_route(ask: Asking) -> None:
    api, page = ask("GET", "/openapi.json").json(), ask("GET", "/docs").text
    posts = [path for path, methods in api["paths"].items() if "post" in methods]
    assert {f"/v1/{TASK}", EXPLAIN, "/v1/study", "/v1/dicom", "/v1/frames", "/v1/feedback"} == set(posts)
    for path in posts:
        assert f"ADDRESS{path}" in page
    assert '{"label": "a2c", "request_id": "9f2c4e5a7b1d3c60"' in page
    assert "application/x-ndjson</code> if the request has it in" in page
    frames = api["paths"]["/v1/frames"]["post"]["responses"]["200"]["content"]
    assert set(frames) == {"application/vnd.echoplane.frames"}
    for path, name in ((f"/v1/{TASK}", "AnswerBody"), (EXPLAIN, "ExplanationBody"), ("/v1/feedback", "FeedbackBody")):
        described = api["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert described == {"$ref": f"#/components/schemas/{name}"}
    study = api["paths"]["/v1/study"]["post"]["responses"]["200"]["content"]
    assert set(study) == {"application/json", "application/x-ndjson"}
