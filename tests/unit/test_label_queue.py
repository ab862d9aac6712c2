"""A queue of studies to label: chosen from the log, filled in by people, and learnt from as feedback alone."""

import csv
import json
from pathlib import Path

import numpy as np
import pydicom
import pytest

from echoplane.cli import main
from echoplane.dataset.catalogue import Source, build_catalogue
from echoplane.dataset.split import SplitRule
from echoplane.monitoring.feedback import FEEDBACK_SUFFIX, FeedbackRow, read_feedback
from echoplane.monitoring.prediction_log import Row, packed
from echoplane.stages.labels import Labels, with_feedback, write_labels
from echoplane.study.views import VIDEO_VIEWS
from echoplane.tasks import by_name, names
from tests.monitor_log import START, TASK, append, make_rows
from tests.tiny_cohort import moving_bar, write_clip

LABELS = [label.name for label in by_name(TASK).labels()]


def request(number: int) -> str:
    return f"{number:015x}a"


def answers(count: int, **changes: object) -> list[Row]:
    """Rows with request ids as the service makes them."""
    rows = make_rows(count)
    return [row.model_copy(update={"request_id": request(k)} | changes) for k, row in enumerate(rows)]


def say(folder: Path, request_id: str, label: str = "a4c", task: str = TASK) -> None:
    row = FeedbackRow(time=START, request_id=request_id, task=task, label=label, author="reader", site="lakeside")
    with (folder / f"said{FEEDBACK_SUFFIX}").open("a") as file:
        file.write(f"{row.model_dump_json()}\n")


def queued(folder: Path, out: Path, *more: str) -> list[dict[str, str]]:
    assert main(["label-queue", TASK, "--predictions", str(folder), "--out", str(out), *more]) == 0
    with out.open(newline="") as file:
        return list(csv.DictReader(file))


def fill(queue: Path, labels: dict[str, str]) -> None:
    """Writes labels into the queue by request, as a person does."""
    with queue.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with queue.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"label": labels.get(row["request_id"], "")} for row in rows)


def give(queue: Path, folder: Path) -> int:
    return main(["feedback", str(queue), "--predictions", str(folder), "--by", "alex"])


def test_a_queue_holds_different_answered_studies_and_what_a_person_needs_to_label_them(tmp_path: Path) -> None:
    rows = answers(80)
    rows[7] = rows[7].model_copy(update={"confidence": 0.02, "label": "a4c"})
    append(tmp_path, rows)
    found = queued(tmp_path, tmp_path / "queue.csv", "--count", "20")
    assert len({row["request_id"] for row in found}) == 20
    assert found[0] == {
        "request_id": request(7),
        "file": "",
        "task": TASK,
        "model_version": "3",
        "top_label": "a4c",
        "confidence": "0.020",
        "why": "the model is unsure",
        "label": "",
    }
    assert all(row["why"] for row in found)


def test_the_same_log_gives_the_same_queue(tmp_path: Path) -> None:
    append(tmp_path, answers(60))
    queues = [tmp_path / name for name in ("a.csv", "b.csv")]
    for queue in queues:
        queued(tmp_path, queue)
    assert queues[0].read_bytes() == queues[1].read_bytes()


def test_a_cannot_tell_names_its_most_probable_label(tmp_path: Path) -> None:
    probabilities = tuple(float(k == 2) for k in range(len(LABELS)))
    append(tmp_path, answers(3, label=None, confidence=0.2, probabilities=probabilities))
    assert {row["top_label"] for row in queued(tmp_path, tmp_path / "queue.csv")} == {LABELS[2]}


def test_studies_with_feedback_and_answers_of_earlier_models_are_left_out(tmp_path: Path) -> None:
    rows = [row.model_copy(update={"bundle": "a" * 64}) if k < 10 else row for k, row in enumerate(answers(40))]
    append(tmp_path, rows)
    for k in range(20, 40):
        say(tmp_path, request(k))
    say(tmp_path, request(15), task="another")
    assert {row["request_id"] for row in queued(tmp_path, tmp_path / "queue.csv")} == {
        request(k) for k in range(10, 20)
    }


def test_a_request_that_was_sent_twice_is_asked_for_once(tmp_path: Path) -> None:
    append(tmp_path, answers(10))
    append(tmp_path, answers(10), "predictions-2.jsonl")
    assert len(queued(tmp_path, tmp_path / "queue.csv")) == 10


def test_an_answer_without_a_usable_embedding_or_confidence_is_left_out(tmp_path: Path) -> None:
    rows = answers(10)
    rows[0] = rows[0].model_copy(update={"embedding": packed(np.full(8, np.inf))})
    rows[1] = rows[1].model_copy(update={"confidence": None})
    append(tmp_path, rows)
    assert {row["request_id"] for row in queued(tmp_path, tmp_path / "queue.csv")} == {request(k) for k in range(2, 10)}


def test_copies_name_the_files_and_give_one_per_examination(tmp_path: Path) -> None:
    append(tmp_path / "log", answers(12))
    copies = tmp_path / "copies"
    for k in range(8):
        path = copies / f"examination{k // 4}" / f"clip{k}_{request(k)}_{request(100 + k)}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    options = ["--copies", str(copies)]
    found = queued(tmp_path / "log", tmp_path / "queue.csv", *options)
    assert {Path(row["file"]).parent.name for row in found} == {"examination0", "examination1"}
    assert len(found) == 2
    assert all(row["request_id"] in row["file"] for row in found)
    for k in range(4):  # each was asked about twice, and a person answered the other time
        say(tmp_path / "log", request(100 + k))
    (only,) = queued(tmp_path / "log", tmp_path / "second.csv", *options)
    assert Path(only["file"]).parent.name == "examination1"


def test_a_task_whose_truth_is_no_label_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = next(name for name in names() if by_name(name).TRUTH != "label")
    append(tmp_path, [row.model_copy(update={"task": other}) for row in answers(5)])
    assert main(["label-queue", other, "--predictions", str(tmp_path), "--out", str(tmp_path / "queue.csv")]) == 2
    assert f"the truth of {other} is not a label" in capsys.readouterr().err
    assert not (tmp_path / "queue.csv").exists()


def test_a_queue_that_people_may_have_filled_in_is_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append(tmp_path, answers(5))
    queued(tmp_path, tmp_path / "queue.csv")
    before = (tmp_path / "queue.csv").read_bytes()
    assert main(["label-queue", TASK, "--predictions", str(tmp_path), "--out", str(tmp_path / "queue.csv")]) == 2
    assert "give a new file" in capsys.readouterr().err
    assert (tmp_path / "queue.csv").read_bytes() == before


def test_nothing_to_choose_from_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append(tmp_path, answers(1))
    say(tmp_path, request(0))
    call = ["label-queue", TASK, "--predictions", str(tmp_path), "--out", str(tmp_path / "queue.csv")]
    assert main(call) == 2
    assert "no study of the last model is left" in capsys.readouterr().err
    assert main([*call, "--copies", str(tmp_path / "nowhere")]) == 2
    assert "`copies` is not a folder" in capsys.readouterr().err


def test_labels_of_a_filled_in_queue_become_feedback_and_the_next_queue_asks_for_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append(tmp_path, answers(30))
    queue = tmp_path / "queue.csv"
    asked = [row["request_id"] for row in queued(tmp_path, queue, "--count", "10")]
    fill(queue, dict.fromkeys(asked[:6], LABELS[1]))
    capsys.readouterr()
    assert main(["feedback", str(queue), "--predictions", str(tmp_path), "--by", " alex ", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"labels": 6, "without_label": 4}
    given = list(read_feedback(tmp_path, TASK))
    assert {row.request_id for row in given} == set(asked[:6])
    assert {(row.label, row.author, row.site) for row in given} == {(LABELS[1], "alex", "lakeside")}
    again = {row["request_id"] for row in queued(tmp_path, tmp_path / "next.csv", "--count", "30")}
    assert len(again) == 24
    assert again.isdisjoint(asked[:6])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{request(1)},{TASK},Jane Doe", "the label in row 3 is none of"),
        (f"1.2E+15,{TASK},a4c", "no answer of the request in row 3. A spreadsheet"),
        (f"{request(0)},{TASK},a2c", "row 3 labels a request that an earlier row labels differently"),
        (f"{request(1)},nonsense,a4c", "there is no task 'nonsense'"),
    ],
)
def test_one_wrong_row_is_named_by_number_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    append(tmp_path, answers(3))
    queue = tmp_path / "queue.csv"
    queue.write_text(f"request_id,task,label\n{request(0)},{TASK},a4c\n{line}\n")
    assert give(queue, tmp_path) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Doe" not in error
    assert list(read_feedback(tmp_path, TASK)) == []


@pytest.mark.parametrize("content", [b"file,view\nx,a4c\n", b"request_id;task;label\n", b"\xff\xfe\x00", b""])
def test_a_file_that_is_no_queue_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    append(tmp_path, answers(3))
    (tmp_path / "queue.csv").write_bytes(content)
    assert give(tmp_path / "queue.csv", tmp_path) == 2
    assert "the queue" in capsys.readouterr().err


def test_a_filled_in_queue_teaches_and_never_changes_the_label_of_a_test_patient(tmp_path: Path) -> None:
    """From the log to the catalogue of a training: a queue that names every study A4C, of patients who show PLAX."""
    log, copies, count = tmp_path / "log", tmp_path / "dicom", 30
    append(log, answers(count))
    for k in range(count):
        write_clip(copies / f"{k}_{request(k)}.dcm", f"P{k:03d}", VIDEO_VIEWS[0], moving_bar(0, [k]), study=f"{k}")
    queue = tmp_path / "queue.csv"
    asked = [row["request_id"] for row in queued(log, queue)]
    assert len(asked) == count
    fill(queue, dict.fromkeys(asked, "a4c"))
    assert give(queue, log) == 0
    labels = with_feedback(Labels(), str(log), copies)
    uids = {path.name: str(pydicom.dcmread(path).SOPInstanceUID) for path in copies.iterdir()}
    write_labels(tmp_path / "labels.csv", labels, uids)
    rows = build_catalogue(Source(tmp_path, TASK, "local", "0" * 64), SplitRule()).table.to_pylist()
    splits = {row["split"] for row in rows}
    assert splits == {"train", "validation", "test"}
    assert {row["label"] for row in rows if row["split"] == "test"} == {VIDEO_VIEWS[0].name}
    assert {row["label"] for row in rows if row["split"] != "test"} == {"a4c"}
