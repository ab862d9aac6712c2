"""The room `dataset`: catalogue, split by patient, shards, balanced sampling."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest

from echoplane.dataset.catalogue import SCHEMA, Source, build_catalogue, read_catalogue
from echoplane.dataset.sampling import epoch_rows, sample_weights
from echoplane.dataset.shards import read_shards
from echoplane.dataset.split import SplitRule, assert_disjoint, split_id, split_patients
from echoplane.dataset.studies import age_band, bmi_band
from echoplane.errors import ConfigError, StageError
from echoplane.stages import dataset
from echoplane.stages.outputs import BundleOutput, Studies
from echoplane.stages.stage import Manifest
from echoplane.study.views import VIDEO_VIEWS
from tests.tiny_cohort import moving_bar, write_clip, write_cohort, write_manifest

PATIENTS = [f"P{k:03d}" for k in range(60)]
TASK = "echo-view-video"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("deid")
    return write_cohort(folder, patients=6, views=2)


def run(root, studies, **settings) -> Manifest:
    return dataset.run(dataset.Config(root=str(root), studies=str(studies), **({"workers": 1} | settings)))


def catalogue_of(folder, **settings):
    return build_catalogue(Source(folder, TASK, "local", "0" * 64, **settings), SplitRule())


# split


@pytest.mark.parametrize("rule", ["rank", "threshold"])
def test_every_patient_is_in_one_split_whatever_their_order(rule):
    forward = split_patients(PATIENTS, SplitRule(rule=rule))
    assert forward == split_patients(PATIENTS[::-1] * 2, SplitRule(rule=rule))
    assert set(forward) == set(PATIENTS)


def test_rank_cuts_at_the_fractions_exactly():
    splits = list(split_patients(PATIENTS, SplitRule(rule="rank", validation=0.15, test=0.4)).values())
    assert [splits.count(name) for name in ("train", "validation", "test")] == [27, 9, 24]


def test_under_threshold_nobody_moves_when_patients_join():
    rule = SplitRule(rule="threshold")
    before, after = split_patients(PATIENTS, rule), split_patients([*PATIENTS, *(f"Q{k}" for k in range(500))], rule)
    assert all(after[p] == before[p] for p in PATIENTS)
    assert np.mean([side == "test" for side in after.values()]) == pytest.approx(rule.test, abs=0.08)


def test_a_list_says_who_is_where_and_leaves_out_the_rest():
    rule = SplitRule(rule="list", patients={"P000": "test", "P001": "train", "absent": "train"})
    assert split_patients(PATIENTS, rule) == {"P000": "test", "P001": "train"}


def test_the_split_id_changes_with_salt_fractions_rule_and_with_the_patients_under_rank():
    rules = [SplitRule(), SplitRule(salt="other"), SplitRule(test=0.3), SplitRule(rule="threshold")]
    ids = {split_id(rule, PATIENTS) for rule in rules} | {split_id(SplitRule(), PATIENTS[1:])}
    assert len(ids) == 5
    growing = SplitRule(rule="threshold")
    assert split_id(growing, PATIENTS) == split_id(growing, PATIENTS[1:])


def test_another_salt_is_another_split():
    assert split_patients(PATIENTS, SplitRule()) != split_patients(PATIENTS, SplitRule(salt="other"))


def test_a_patient_in_two_splits_is_refused():
    assert_disjoint(["a", "a", "b"], ["train", "train", "test"])
    with pytest.raises(ConfigError, match=r"1 patient\(s\) are in more than one split"):
        assert_disjoint(["a", "a", "b"], ["train", "test", "test"])


def test_a_split_that_leaves_nobody_to_train_on_is_refused():
    with pytest.raises(ValueError, match="leave no patient to train on"):
        SplitRule(validation=0.5, test=0.5)


# sampling


def skewed() -> tuple[np.ndarray, np.ndarray]:
    """Label 0 is ten times as common as label 1; patient 0 has most of it."""
    label = np.array([0] * 100 + [1] * 10)
    patient = np.array([0] * 80 + list(range(1, 21)) + list(range(10)))
    return label, patient


def test_at_full_balance_labels_and_patients_within_them_are_shown_equally():
    label, patient = skewed()
    weights = sample_weights(label, patient, 1.0)
    assert weights[label == 1].sum() == pytest.approx(0.5)
    assert weights[(label == 0) & (patient == 0)].sum() == pytest.approx(0.5 / 21)


def test_without_balance_the_data_are_shown_as_they_are():
    assert sample_weights(*skewed(), 0.0) == pytest.approx(np.full(110, 1 / 110))


def test_drawn_epochs_are_balanced():
    label, patient = skewed()
    rows = epoch_rows(label, patient, draws=600, seed=1, epoch=0)
    assert (label[rows] == 1).sum() == pytest.approx(300, abs=10)
    assert np.bincount(rows, minlength=110).min() >= 0
    assert ((label[rows] == 0) & (patient[rows] == 0)).sum() == pytest.approx(600 * 0.5 / 21, abs=3)


def test_an_epoch_as_long_as_even_data_shows_each_sample_once():
    label, patient = np.repeat(np.arange(12), 5), np.tile(np.arange(5), 12)
    assert sorted(epoch_rows(label, patient, draws=60, seed=3, epoch=7)) == list(range(60))


def test_workers_share_one_epoch_without_talking():
    label, patient = skewed()
    settings = {"draws": 64, "seed": 5, "epoch": 2}
    whole = epoch_rows(label, patient, **settings)
    parts = [epoch_rows(label, patient, **settings, rank=rank, world=3) for rank in range(3)]
    for rank, part in enumerate(parts):
        assert (part == whole[rank::3]).all()


def test_epochs_differ_and_each_can_be_drawn_again():
    label, patient = skewed()
    first, second = (epoch_rows(label, patient, draws=64, seed=5, epoch=epoch) for epoch in (0, 1))
    assert (first != second).any()
    assert (second == epoch_rows(label, patient, draws=64, seed=5, epoch=1)).all()


# catalogue


def test_the_catalogue_has_its_columns_and_sorted_rows(cohort):
    table = catalogue_of(cohort.parent).table
    assert table.schema.equals(SCHEMA, check_metadata=True)
    rows = {row["uri"]: row for row in table.to_pylist()}
    row = rows["dicom/p000/plax-0.dcm"]
    assert [row[name] for name in ("patient", "label", "sex", "frames", "frame_time_ms")] == [
        "P000",
        "plax",
        "F",
        10,
        40,
    ]
    assert (row["age_band"], row["bmi_band"], row["manufacturer"]) == ("60 to 69", None, "Bars")
    assert table["patient"].to_pylist() == sorted(table["patient"].to_pylist())


def test_the_data_digest_does_not_depend_on_the_folder(cohort, tmp_path):
    elsewhere = write_cohort(tmp_path / "other" / "place", patients=6, views=2)
    digests = [
        run(tmp_path / name, studies).counts["data_digest"] for name, studies in (("a", cohort), ("b", elsewhere))
    ]
    assert digests[0] == digests[1]


def test_a_clip_without_a_label_is_left_out_and_counted(tmp_path):
    write_clip(tmp_path / "dicom/a.dcm", "P1", None, moving_bar(0, [1]))
    write_clip(tmp_path / "dicom/b.dcm", "P1", VIDEO_VIEWS[0], moving_bar(0, [2]))
    catalogue = catalogue_of(tmp_path)
    assert (len(catalogue.table), catalogue.left_out) == (1, {"no label": 1})


def test_a_file_that_is_no_image_and_one_that_is_there_twice_are_left_out_and_counted(tmp_path):
    write_clip(tmp_path / "dicom/a.dcm", "P1", VIDEO_VIEWS[0], moving_bar(0, [1]))
    (tmp_path / "dicom/again.dcm").write_bytes((tmp_path / "dicom/a.dcm").read_bytes())
    (tmp_path / "dicom/notes.txt").write_text("hello")
    catalogue = catalogue_of(tmp_path)
    assert (len(catalogue.table), catalogue.left_out) == (1, {"the same file again": 1, "unreadable: not-an-image": 1})


def test_the_labels_table_wins_over_the_file(tmp_path):
    write_clip(tmp_path / "dicom/a.dcm", "P1", VIDEO_VIEWS[0], moving_bar(0, [1]))
    (instance,) = catalogue_of(tmp_path).table["instance"].to_pylist()
    (tmp_path / "labels.csv").write_text(f"instance,view\n{instance},a4c\nabsent,a2c\n")
    catalogue = catalogue_of(tmp_path)
    assert catalogue.table["label"].to_pylist() == ["a4c"]
    assert catalogue.left_out == {"label without a clip": 1}


def test_corrections_teach_but_are_never_tested_on(tmp_path):
    """A test patient keeps the label that its file states; a study that only feedback labels is left out there."""
    for patient in range(30):
        write_clip(tmp_path / f"dicom/{patient}.dcm", f"P{patient:03d}", VIDEO_VIEWS[0], moving_bar(0, [patient]))
    before = catalogue_of(tmp_path).table.to_pylist()
    rows = [f"{row['instance']},a4c,feedback" for row in before]
    (tmp_path / "labels.csv").write_text("\n".join(["instance,view,source", *rows]) + "\n")
    after = catalogue_of(tmp_path).table.to_pylist()
    assert [row["split"] for row in after] == [row["split"] for row in before]
    assert {row["label"] for row in after if row["split"] == "test"} == {VIDEO_VIEWS[0].name}
    assert {row["label"] for row in after if row["split"] != "test"} == {"a4c"}
    for path in (tmp_path / "dicom").iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.ViewCodeSequence
        dataset.save_as(path)
    catalogue = catalogue_of(tmp_path)
    assert set(catalogue.table["split"].to_pylist()) == {"train", "validation"}
    tested = sum(row["split"] == "test" for row in before)
    assert catalogue.left_out == {"feedback on a patient of the test set": tested}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("instance,view\n1.2.3,four chamber\n", "names the view 'four chamber'; the views are plax, rv-inflow"),
        ("uid,label\n1.2.3,a4c\n", "`instance` and `view` are needed"),
        ("instance,view\n1.2.3,a4c\n1.2.3,a2c\n", "line 3 of labels.csv gives an instance a second"),
    ],
)
def test_a_wrong_labels_table_says_what_is_wrong(tmp_path, text, message):
    write_clip(tmp_path / "dicom/a.dcm", "P1", VIDEO_VIEWS[0], moving_bar(0, [1]))
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(ConfigError, match=message):
        catalogue_of(tmp_path)


def test_a_pseudonym_shared_by_many_patients_is_refused(tmp_path):
    for study in range(4):
        write_clip(tmp_path / f"dicom/{study}.dcm", "ANON", VIDEO_VIEWS[0], moving_bar(0, [study]), study=str(study))
    assert len(catalogue_of(tmp_path, max_studies=4).table) == 4
    with pytest.raises(ConfigError, match="one pseudonym has 4 studies, more than 3"):
        catalogue_of(tmp_path, max_studies=3)


def test_a_study_whose_files_name_two_patients_is_refused(tmp_path):
    for name in "ab":
        write_clip(tmp_path / f"dicom/{name}.dcm", "P-1", VIDEO_VIEWS[0], moving_bar(0, [ord(name)]))
    dataset = pydicom.dcmread(tmp_path / "dicom/b.dcm")
    dataset.PatientID = ""
    dataset.save_as(tmp_path / "dicom/b.dcm")
    with pytest.raises(ConfigError, match="1 studies are of several patients"):
        catalogue_of(tmp_path)


def test_studies_without_a_patient_get_a_pseudonym_each(tmp_path):
    for study in "12":
        write_clip(tmp_path / f"dicom/{study}.dcm", "", VIDEO_VIEWS[0], moving_bar(0, [int(study)]), study=study)
    patients = catalogue_of(tmp_path).table["patient"].to_pylist()
    assert len(set(patients)) == 2
    assert all(p.startswith("unknown-") for p in patients)


@pytest.mark.parametrize(("age", "band"), [(None, None), (0, "0 to 9"), (63, "60 to 69"), (90, "90 and over")])
def test_ages_fall_into_decades(age, band):
    assert age_band(age) == band


@pytest.mark.parametrize(
    ("bmi", "band"), [(None, None), (18.4, "under 18.5"), (25.0, "25 to 30"), (41.0, "30 and over")]
)
def test_a_bmi_band_holds_its_lower_limit(bmi, band):
    assert bmi_band(bmi) == band


# shards and stage


def test_shards_hold_what_the_task_prepares_and_no_test_patient(cohort, tmp_path):
    from echoplane.study.dicom import read_dicom
    from echoplane.tasks import by_name

    manifest = run(tmp_path, cohort)
    shards = read_shards(manifest.path)
    table = read_catalogue(manifest.path / "catalogue.parquet").to_pylist()
    tested = {row["patient"] for row in table if row["split"] == "test"}
    assert tested.isdisjoint(shards.index["patient"])
    uri_of = {row["sample"]: row["uri"] for row in table}
    task = by_name(TASK)
    for row, sample in enumerate(shards.index["sample"]):
        study = read_dicom(cohort.parent / uri_of[sample])
        assert (shards.sample(row) == task.preprocess(study, task.Preprocessing()).batch[0]).all()


def test_shards_are_the_same_whatever_the_number_of_workers(cohort, tmp_path):
    one, two = (run(tmp_path / str(n), cohort, workers=n) for n in (1, 2))
    for name in ("catalogue.parquet", "index.parquet", "clips-0000.npy", "dataset.json"):
        assert (one.path / name).read_bytes() == (two.path / name).read_bytes()


def test_full_shards_are_followed_by_another(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("echoplane.dataset.shards.ROWS_A_SHARD", 3)
    shards = read_shards(run(tmp_path, cohort).path)
    count = len(shards.index["label"])
    assert [len(m) for m in shards.maps] == [3] * (count // 3) + [count % 3] * (count % 3 > 0)
    assert len({shards.sample(row).tobytes() for row in range(count)}) == count


def test_a_clip_that_the_task_can_not_use_is_left_out_and_said(tmp_path, capsys):
    write_cohort(tmp_path / "deid", patients=6, views=1)
    for patient in range(6):
        path = tmp_path / f"deid/dicom/p{patient:03d}/short.dcm"
        write_clip(path, f"P{patient:03d}", VIDEO_VIEWS[1], moving_bar(1, [patient])[:2])
    counts = run(tmp_path, write_manifest(tmp_path / "deid")).counts
    assert counts["left_out"] == {"unusable: unusable-study": 4}
    assert "dataset left out 4 files: 4 (unusable: unusable-study)\n" in capsys.readouterr().out
    assert counts["patients"] == {"train": 3, "validation": 1, "test": 2}


def test_the_stage_describes_its_dataset(cohort, tmp_path):
    manifest = run(tmp_path, cohort, preprocessing={"frames": 8}, split=SplitRule(salt="s"))
    described = json.loads((manifest.path / "dataset.json").read_text())
    assert described["preprocessing"] == {"frames": 8, "size": 64, "span_s": 1.0, "min_frames": 4}
    assert described["split_id"] == manifest.counts["split_id"]
    assert read_shards(manifest.path).maps[0].shape[1:] == (8, 64, 64)


def test_wrong_preprocessing_and_no_labelled_clip_say_what_is_wrong(cohort, tmp_path):
    with pytest.raises(ConfigError, match="`preprocessing` of echo-view-video is not valid"):
        run(tmp_path, cohort, preprocessing={"pixels": 64})
    write_clip(tmp_path / "bare/dicom/a.dcm", "P1", None, moving_bar(0, [1]))
    with pytest.raises(ConfigError, match="no study with a label was found"):
        run(tmp_path, write_manifest(tmp_path / "bare"))


def with_output(manifest: Path, **changes: object) -> Path:
    """The manifest with other fields, written over."""
    Manifest.read(manifest).model_copy(update=changes).write(manifest)
    return manifest


@pytest.mark.parametrize(
    ("output", "why"),
    [
        (Studies(unit="file", count=1, identity="unknown"), "without a de-identification report"),
        (None, "does not state what is needed here"),
        (BundleOutput(bundle_id="0" * 64), "does not state what is needed here"),
    ],
)
def test_studies_that_may_name_somebody_are_refused(tmp_path, output, why):
    manifest = write_cohort(tmp_path / "raw", patients=1)
    with pytest.raises(ConfigError, match=why):
        run(tmp_path, with_output(manifest, output=output, counts={"cines": 1}))


def test_studies_of_a_stage_that_makes_none_are_refused_as_public_ones_too(tmp_path):
    manifest = with_output(write_cohort(tmp_path / "raw", patients=1), stage="anything", counts={"cines": 1})
    for public in ("", "me"):
        with pytest.raises(ConfigError, match="one of `phantom` or `ingest` or `deid` is needed"):
            run(tmp_path, manifest, public=public)


def test_a_publisher_of_blanks_is_none(tmp_path):
    manifest = with_output(
        write_cohort(tmp_path / "raw", patients=1), output=Studies(unit="file", count=1, identity="unknown")
    )
    with pytest.raises(ConfigError, match="who published"):
        run(tmp_path, manifest, public="  ")


def test_a_missing_or_edited_report_is_no_proof(tmp_path):
    manifest = write_cohort(tmp_path / "deid", patients=1)
    report = tmp_path / "deid/report.json"
    report.write_text(report.read_text().replace('"test"', '"other"'))
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"report\.json is not the report that `deid` wrote"):
            run(tmp_path, manifest)
        report.unlink(missing_ok=True)


@pytest.mark.parametrize("how", ["added", "changed", "renamed"])
def test_a_study_that_the_deid_report_does_not_list_is_refused_and_not_named(tmp_path, how):
    manifest = write_cohort(tmp_path / "deid", patients=3, views=1)
    first = next((tmp_path / "deid/dicom").rglob("*.dcm"))
    place = first if how == "changed" else first.with_name("0-DOE_JANE.dcm")
    if how == "renamed":
        first.rename(place)
    else:
        write_clip(place, "DOE_JANE", VIDEO_VIEWS[1], moving_bar(1, [9]))
    with pytest.raises(StageError, match=f"1 of {3 + (how == 'added')} studies are not what `deid` wrote") as refused:
        run(tmp_path, manifest)
    assert "DOE_JANE" not in str(refused.value)
    assert not list(tmp_path.rglob("catalogue.parquet"))


@pytest.mark.parametrize("report", ["{", "[]", '{"policy": "test"}'])
def test_what_is_no_report_of_deid_is_no_proof(tmp_path, report):
    manifest = write_cohort(tmp_path / "deid", patients=1, views=1)
    (tmp_path / "deid/report.json").write_text(report)
    digest = hashlib.sha256(report.encode()).hexdigest()
    with_output(manifest, output=Studies(unit="file", count=1, identity="removed", report_sha256=digest))
    with pytest.raises(ConfigError, match=r"report\.json is not a report of `deid`"):
        run(tmp_path, manifest)


def test_a_catalogue_of_another_schema_is_refused(cohort, tmp_path):
    table = catalogue_of(cohort.parent).table.replace_schema_metadata({"schema": "3"})
    pq.write_table(table, tmp_path / "catalogue.parquet")
    with pytest.raises(ConfigError, match="schema 3; 2 is read here"):
        read_catalogue(tmp_path / "catalogue.parquet")
