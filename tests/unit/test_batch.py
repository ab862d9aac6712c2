"""Many studies in one go: a row for each, whatever a file is or does."""

import csv
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kfp import dsl

from components.readme import component
from echoplane import cli, storage
from echoplane.batch import answers as answering
from echoplane.batch.answers import Answers, Model, Row
from echoplane.batch.studies import Files, studies_in
from echoplane.batch.tables import counts, write_tables
from echoplane.errors import ConfigError, StageError
from echoplane.runtimes import InferenceSettings
from echoplane.stages import batch
from echoplane.stages.stage import Manifest
from echoplane.storage import Stored
from tests.crashing import crashing
from tests.tiny_bundle import make_tiny_bundle
from tests.tiny_cine import beating_heart, make_tiny_cine_bundle, slice_file
from tests.tiny_cohort import write_cohort

MODEL = {"task": "echo-view-video", "name": "version 3", "bundle": "0" * 64, "runtime": "openvino", "precision": "f32"}
CLIPS = 6


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny", abstain_below=0.4)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips, and what lies about in real folders."""
    folder = tmp_path_factory.mktemp("studies")
    write_cohort(folder, patients=2, views=3)
    good = sorted((folder / "dicom").rglob("*.dcm"))[0].read_bytes()
    (folder / "dicom" / "=HYPERLINK(1).dcm").write_bytes(b"no image")
    (folder / "dicom" / "cut.dcm").write_bytes(good[: len(good) // 2])
    (folder / "dicom" / "DICOMDIR").write_bytes(b"left out")
    (folder / "dicom" / ".hidden").write_bytes(b"left out")
    return folder / "dicom"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def done(work: Path, place: Path, bundle: Path) -> Manifest:
    return batch.run(config(work, place, bundle))


def config(work: Path, place: Path, bundle: Path, **more: Any) -> batch.Config:
    return batch.Config(root=str(work), source=str(place), model=str(bundle), **{"part_size": 5} | more)


def rows_of(manifest: Manifest) -> dict[str, dict[str, Any]]:
    found = json.loads((manifest.path / "results.json").read_text())
    return {row["study"]: row for row in found["studies"]}


def test_every_study_has_a_row_and_a_bad_one_its_reason(done: Manifest) -> None:
    assert done.counts["studies"] == CLIPS + 2
    assert done.counts["refused"] == 2
    assert done.counts["answered"] + done.counts["abstained"] == CLIPS
    rows = rows_of(done)
    assert len(rows) == CLIPS + 2
    for name in ("=HYPERLINK(1).dcm", "cut.dcm"):
        assert rows[name]["outcome"] == "refused"
        assert rows[name]["reason"]
        assert len(rows[name]["sha256"]) == 64


def test_an_answer_is_the_one_that_predict_gives(
    done: Manifest, place: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = sorted(place.rglob("p000/*.dcm"))[0]
    assert cli.main(["predict", str(file), "--bundle", str(bundle), "--precision", "f32", "--json"]) == 0
    predicted = json.loads(capsys.readouterr().out.splitlines()[0])
    row = rows_of(done)[file.relative_to(place).as_posix()]
    assert row["probabilities"] == pytest.approx(predicted["probabilities"])
    assert row.get("label", "") == (predicted["label"] or "")


def test_who_can_not_tell_says_why(work: Path, place: Path, tmp_path: Path) -> None:
    shy = make_tiny_bundle(tmp_path / "shy", abstain_below=0.999999)
    made = batch.run(config(work, place, shy))
    assert made.counts["abstained"] == CLIPS
    reasons = {row["reason"] for row in rows_of(made).values() if row["outcome"] == "abstained"}
    assert all("under the threshold of 1.00" in reason for reason in reasons)


def test_s17_what_is_published_holds_digests_in_place_of_names(done: Manifest, place: Path) -> None:
    published = done.path / batch.PUBLISHED
    for name in ("results.csv", "results.json", "report.html"):
        text = (published / name).read_text()
        assert text
        assert not [path.name for path in place.rglob("*") if path.name in text]
    digests = {row["study"] for row in json.loads((published / "results.json").read_text())["studies"]}
    assert digests == {row["sha256"] for row in rows_of(done).values()}


def test_the_table_runs_nothing_in_a_spreadsheet(done: Manifest) -> None:
    with (done.path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == CLIPS + 2
    assert "'=HYPERLINK(1).dcm" in {row["study"] for row in rows}
    page = (done.path / "report.html").read_text()
    assert "Research use only" in page
    assert page.index("refused</td>") < page.index("answered</td>")


def test_a_second_run_reads_no_study(work: Path, place: Path, bundle: Path, done: Manifest, monkeypatch: Any) -> None:
    def never(*_: object) -> None:
        raise AssertionError("started")

    monkeypatch.setattr(Answers, "ask", never)
    assert batch.run(config(work, place, bundle)) == done


def test_an_interrupted_part_goes_on_after_its_last_row(
    tmp_path: Path, place: Path, bundle: Path, done: Manifest, monkeypatch: Any
) -> None:
    asked, ask = [], Answers.ask

    def until_killed(self: Answers, study: Files) -> Row:
        asked.append(study.name)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return ask(self, study)

    monkeypatch.setattr(Answers, "ask", until_killed)
    with pytest.raises(KeyboardInterrupt):
        batch.run(config(tmp_path, place, bundle))
    (rows,) = tmp_path.glob("batch-part/*.partial/rows.jsonl")
    rows.write_text(rows.read_text() + '{"study": "cut off')
    again = batch.run(config(tmp_path, place, bundle))
    assert len(asked) == CLIPS + 2 + 1, "the one during which it was killed is asked twice"
    assert [(name, row["outcome"]) for name, row in rows_of(again).items()] == [
        (name, row["outcome"]) for name, row in rows_of(done).items()
    ]


def test_a_row_that_was_cut_off_within_a_letter_is_left_out(tmp_path: Path) -> None:
    whole, cut = (Row(study=name, outcome="answered").model_dump_json().encode() for name in ("one", "Übung"))
    (tmp_path / "rows").write_bytes(whole + b"\n" + cut[: cut.index("Ü".encode()) + 1])
    assert [row.study for row in batch._kept(tmp_path / "rows")] == ["one"]


def test_no_file_name_stops_the_others(tmp_path: Path, bundle: Path) -> None:
    place = Path(write_cohort(tmp_path / "in", patients=1, views=1)).parent / "dicom"
    clip = next(place.rglob("*.dcm")).read_bytes()
    for name in (b"caf\xe9.dcm", "Herz\u0085.dcm".encode(), "a\u2028b\nc.dcm".encode()):
        Path(os.fsdecode(bytes(place) + b"/" + name)).write_bytes(clip)
    rows = rows_of(batch.run(config(tmp_path / "work", place, bundle)))
    refused = {name: row["reason"] for name, row in rows.items() if row["outcome"] == "refused"}
    assert len(rows) == 4
    assert set(refused) == {"caf\\xe9.dcm"}
    assert "not UTF-8" in refused["caf\\xe9.dcm"]


def test_a_study_that_had_too_little_time_is_asked_again_with_more(tmp_path: Path, bundle: Path) -> None:
    write_cohort(tmp_path / "in", patients=1, views=1)
    given = (tmp_path / "work", tmp_path / "in" / "dicom", bundle)
    hasty = batch.run(config(*given, study_timeout_s=0.0001))
    (row,) = rows_of(hasty).values()
    assert row["reason"] == "no answer within 0.0001 s; give a larger `study_timeout_s`."
    assert batch.run(config(*given, study_timeout_s=600)).counts["refused"] == 0


def test_another_model_or_a_changed_file_is_another_answer(tmp_path: Path, bundle: Path) -> None:
    write_cohort(tmp_path / "in", patients=1, views=2)
    place, work = tmp_path / "in" / "dicom", tmp_path / "work"
    first = batch.run(config(work, place, bundle))
    assert first.counts["refused"] == 0
    next(place.rglob("*.dcm")).write_bytes(b"damaged since")
    assert batch.run(config(work, place, bundle)).counts["refused"] == 1


def test_a_study_that_ends_its_process_or_never_ends_costs_itself_alone() -> None:
    model = Model(folder="none", settings=InferenceSettings(precision="f32", threads=1))
    served = Answers(model, "none", max_s=20, serve=crashing)
    try:
        said = [served.ask(Files(name=name, files=(name,), state="")) for name in ("a", "crashes", "b")]
        served._most_s = 0.2
        said.append(served.ask(Files(name="hangs", files=("hangs",), state="")))
        served._most_s = 20
        said.append(served.ask(Files(name="c", files=("c",), state="")))
    finally:
        served.close()
    assert [row.outcome for row in said] == ["answered", "refused", "answered", "refused", "answered"]
    assert "ended the process" in said[1].reason
    assert "no answer within" in said[3].reason


def test_a_model_that_does_not_load_is_no_fault_of_the_studies(tmp_path: Path) -> None:
    with (
        answering.answers(
            Model(folder=str(tmp_path), settings=InferenceSettings(precision="f32", threads=1)), "", 5
        ) as asked,
        pytest.raises(StageError, match="the model can't be used"),
    ):
        asked.ask(Files(name="a", files=("a",), state=""))


def test_the_slices_of_a_folder_are_one_cine_and_get_their_measures(tmp_path: Path) -> None:
    place = tmp_path / "in"
    (place / "one").mkdir(parents=True)
    pictures, _ = beating_heart(phases=6, slices=4)
    for t in range(6):
        for z in range(4):
            slice_file(place / "one", f"{t}-{z}.dcm", 8.0 * z, 100.0 * t, pictures[t, z])
    (place / "two").mkdir()
    (place / "two" / "notes.dcm").write_bytes(b"no MR")
    model = make_tiny_cine_bundle(tmp_path / "bundle")
    made = batch.run(config(tmp_path / "work", place, model, task="cmr-segmentation"))
    rows = rows_of(made)
    assert set(rows) == {"one", "two"}
    assert rows["one"]["outcome"] != "refused", rows["one"]
    assert rows["two"]["outcome"] == "refused"
    with (made.path / "results.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert float(first["lvedv_ml"]) > 0


@pytest.mark.parametrize(
    ("names", "studies"),
    [
        (["a/1.dcm", "a/2.dcm", "b/1.dcm"], ["a", "b"]),
        (["1.dcm", "2.dcm"], ["."]),
        (["x.nii.gz", "y.nii.gz", "z.zip"], ["x.nii.gz", "y.nii.gz", "z.zip"]),
        (["p/sa.nii.gz", "p/la_2ch.nii.gz"], ["p"]),
    ],
)
def test_what_one_cine_study_is(names: list[str], studies: list[str]) -> None:
    stored = [Stored(name, 1, 1) for name in names]
    assert [study.name for study in studies_in(stored, "cmr-segmentation")] == studies
    assert [study.name for study in studies_in(stored, "echo-view-video")] == sorted(names)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"source": ""}, "give either"),
        ({"source": "/none"}, "not a folder"),
        ({"model": "newest"}, "champion, previous"),
        ({"task": "cmr-segmentation"}, "answers echo-view-video"),
    ],
)
def test_a_wrong_call_says_what_to_give(
    tmp_path: Path, place: Path, bundle: Path, wrong: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match=said):
        batch.run(config(tmp_path, place, bundle).model_copy(update=wrong))


def test_an_empty_folder_is_a_clear_error(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no study"):
        batch.run(config(tmp_path, tmp_path / "empty", bundle))


def test_parts_of_another_plan_are_refused(done: Manifest, work: Path, tmp_path: Path) -> None:
    (plan, *_) = (path for path in work.glob("batch-plan/*/manifest.json"))
    with pytest.raises(ConfigError, match="the plan's own parts"):
        batch.results(batch.ResultsConfig(root=str(tmp_path), plan=str(plan), parts=[]))


def test_the_command_ends_with_three_where_a_study_was_refused(
    work: Path, place: Path, bundle: Path, done: Manifest, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["batch", "--root", str(work), "--source", str(place), "--model", str(bundle), "--part-size", "5", "--json"]
    assert cli.main(call) == 3
    assert json.loads(capsys.readouterr().out)["counts"] == done.counts


def test_components_hand_the_parts_on(work: Path, place: Path, bundle: Path, done: Manifest, tmp_path: Path) -> None:
    """Everything is found finished: these are doors."""
    nobody = SimpleNamespace(path="")
    plan, rows, results = (SimpleNamespace(path=str(tmp_path / name)) for name in ("plan", "rows", "results"))
    table, answers, report = (SimpleNamespace(path=str(tmp_path / name)) for name in ("table", "answers", "report"))
    settings = {"task": "echo-view-video", "runtime": "", "precision": "", "part_size": 5}
    numbers = component("batch_plan").python_func(
        root=str(work), studies=nobody, source=str(place), model=str(bundle), plan=plan, **settings
    )
    assert numbers == ["0", "1"]
    parts = [
        component("batch_part").python_func(root=str(work), plan=plan, part=number, study_timeout_s=120, rows=rows)
        for number in numbers
    ]
    metrics = dsl.Metrics()
    component("batch_results").python_func(
        root=str(work),
        plan=plan,
        parts=parts,
        results=results,
        table=table,
        answers=answers,
        metrics=metrics,
        report=report,
    )
    assert metrics.metadata["refused"] == 2
    assert (tmp_path / "table").read_text() == (done.path / batch.PUBLISHED / "results.csv").read_text()


def test_a_page_of_very_many_studies_shows_those_without_an_answer(tmp_path: Path) -> None:
    rows = [Row(study=f"s{k:05d}", outcome="answered", label="plax", confidence=0.9) for k in range(1500)]
    rows.append(Row(study="z", outcome="refused", reason="damaged"))
    write_tables(rows, MODEL, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "The first 1000" in page
    assert "damaged" in page
    assert counts(rows)["labels"] == {"plax": 1500}


@pytest.mark.parametrize(
    ("variables", "endpoint"),
    [
        ({}, None),
        ({"AWS_ENDPOINT_URL": "http://minio"}, "http://minio"),
        ({"AWS_ENDPOINT_URL": "http://minio", "AWS_ENDPOINT_URL_S3": "http://archive"}, "http://archive"),
    ],
)
def test_the_address_for_s3_goes_before_the_one_for_all_services(
    variables: dict[str, str], endpoint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(storage, "_connected", lambda endpoint, *_: endpoint)
    assert storage._bucket() == endpoint
