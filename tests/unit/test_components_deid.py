"""The stage `deid`: what it takes, what joins its key, where patients stay."""

import csv
import stat
from datetime import UTC, datetime
from pathlib import Path

import pydicom
import pytest

from echoplane.errors import ConfigError
from echoplane.monitoring.feedback import FEEDBACK_SUFFIX, FeedbackRow
from echoplane.phantom import write_patient
from echoplane.stages import dataset, deid, phantom
from echoplane.stages.outputs import Studies
from echoplane.stages.stage import Manifest

KEY = "00112233445566778899aabbccddeefffedcba98765432100123456789abcdef"


@pytest.fixture(scope="module")
def exams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of one invented patient."""
    folder = tmp_path_factory.mktemp("exams")
    write_patient(folder, 5, views=["plax", "a4c"], frames=8)
    return folder


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "deid.key"
    path.write_text(KEY)
    return path


@pytest.fixture(autouse=True)
def _no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECHOPLANE_DEID_KEY", raising=False)


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def config(root: Path, source: Path, key_file: Path, **more: str) -> deid.Config:
    return deid.Config(root=str(root), source=str(source), key_file=str(key_file), workers=1, **more)


def phantom_manifest(folder: str, count: int) -> Manifest:
    output = Studies(unit="file", count=count, identity="unknown")
    return Manifest(stage="phantom", key="", digest="", folder=folder, counts={}, output=output, duration_s=0)


def labels_csv(folder: Path, *rows: str) -> str:
    path = folder / "labels.csv"
    path.write_text("\n".join(["file,view", *rows]))
    return str(path)


def test_neither_studies_nor_a_source_is_a_wrong_call(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="either"):
        deid.run(deid.Config(root=str(tmp_path)))


def test_studies_and_a_source_together_are_a_wrong_call(tmp_path: Path, exams: Path, key_file: Path) -> None:
    manifest = phantom_manifest("", 12)
    manifest.write(tmp_path / "m.json")
    with pytest.raises(ConfigError, match="either"):
        deid.run(config(tmp_path, exams, key_file, studies=str(tmp_path / "m.json")))


def test_an_empty_cohort_gives_way_to_ones_own_studies(tmp_path: Path, exams: Path, key_file: Path) -> None:
    made = phantom.run(phantom.Config(root=str(tmp_path), source=str(exams)))
    done = deid.run(config(tmp_path, exams, key_file, studies=str(made.path / "manifest.json")))
    claims = {"clean pixels": {"claimed": 1, "not claimed": 1}}
    assert done.counts == {"written": 2, "quarantined": 0, "refused": 0} | claims


def test_ones_own_studies_need_a_key_and_the_error_says_how_to_make_one(tmp_path: Path, exams: Path) -> None:
    with pytest.raises(ConfigError, match="openssl rand -hex 32"):
        deid.run(deid.Config(root=str(tmp_path), source=str(exams)))


def test_phantoms_get_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    write_patient(folder / "dicom", 5, views=["plax"], frames=8)
    manifest = phantom_manifest(str(folder), 1)
    manifest.write(tmp_path / "m.json")
    done = deid.run(deid.Config(root=str(tmp_path), studies=str(tmp_path / "m.json"), workers=1))
    assert done.counts["written"] == 1
    assert stat.S_IMODE((tmp_path / "phantom-deid.key").stat().st_mode) == 0o600


def test_a_dataset_takes_what_the_stage_wrote(tmp_path: Path, exams: Path, key_file: Path) -> None:
    done = deid.run(config(tmp_path, exams, key_file))
    made = dataset.run(dataset.Config(root=str(tmp_path), studies=f"{done.folder}/manifest.json", workers=1))
    assert sum(made.counts["patients"].values()) == 1
    assert made.counts["left_out"] == {}


def test_labels_follow_their_files_to_the_new_instances(tmp_path: Path, exams: Path, key_file: Path) -> None:
    first, second = files_of(exams)
    labels = labels_csv(tmp_path, f"{first},a2c", f"{second},suprasternal")
    done = deid.run(config(tmp_path / "root", exams, key_file, labels=labels))
    written = dict(line.split(",") for line in (done.path / "labels.csv").read_text().splitlines()[1:])
    by_uid = {pydicom.dcmread(path).SOPInstanceUID: path for path in done.path.rglob("*.dcm")}
    assert set(written) == set(by_uid)
    key = deid._inputs(config(tmp_path, exams, key_file))[2]
    assert written[key.uid(pydicom.dcmread(exams / first).SOPInstanceUID)] == "a2c"


def test_feedback_labels_the_copies_of_its_requests_and_a_labels_file_wins(
    tmp_path: Path, exams: Path, key_file: Path
) -> None:
    copies, said = tmp_path / "copies", tmp_path / "predictions"
    copies.mkdir()
    said.mkdir()
    ids = [f"{number:016x}" for number in range(4)]
    names = ["aa_" + ids[0], f"bb_{ids[1]}_{ids[2]}", "cc_" + ids[3]]
    first, second = files_of(exams)
    for name, file in zip(names, (first, second, first), strict=True):
        (copies / f"{name}.dcm").write_bytes((exams / file).read_bytes())
    told = [(ids[0], "a2c"), (ids[1], "plax"), (ids[2], "a4c"), (ids[3], "plax"), (ids[0], "a3c"), ("f" * 16, "a4c")]
    rows = [
        FeedbackRow(
            time=datetime(2026, 11, 1, 0, minute, tzinfo=UTC),
            request_id=request_id,
            task="echo-view-video",
            label=label,
            author="reader",
            site="lakeside",
        )
        for minute, (request_id, label) in enumerate(told)
    ]
    (said / f"a{FEEDBACK_SUFFIX}").write_text("".join(f"{row.model_dump_json()}\n" for row in rows))
    labels = labels_csv(tmp_path, f"{names[2]}.dcm,subcostal-4c")
    (_, found, _) = deid._inputs(config(tmp_path, copies, key_file, labels=labels, feedback=str(said)))
    assert found.by_file == {f"{names[2]}.dcm": "subcostal-4c"}
    assert found.by_feedback == {f"{names[0]}.dcm": "a3c", f"{names[1]}.dcm": "a4c"}  # what was said last
    done = deid.run(config(tmp_path / "root", copies, key_file, feedback=str(said)))
    with (done.path / "labels.csv").open() as file:
        assert {row["source"] for row in csv.DictReader(file)} == {"feedback"}
    (said / f"b{FEEDBACK_SUFFIX}").write_text("nonsense\n")
    with pytest.raises(ConfigError, match="no row of feedback"):
        deid._inputs(config(tmp_path, copies, key_file, feedback=str(said)))


def test_a_labels_file_that_is_not_there_is_said_to_be_so(tmp_path: Path, exams: Path, key_file: Path) -> None:
    with pytest.raises(ConfigError, match="the labels file does not exist"):
        deid.run(config(tmp_path / "root", exams, key_file, labels=str(tmp_path / "lables.csv")))


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        (["DOE^JANE/1,a4c"], "row 2 has no file"),
        (["{first},a4c", "{second},sideways"], "row 3 has no known view"),
        (["../{first},a4c"], "row 2 has no file"),
        (["{first},a4c", "{first},a2c"], "row 3 has a file that is named before"),
    ],
)
def test_wrong_labels_are_told_by_row_and_never_by_what_the_row_holds(
    tmp_path: Path, exams: Path, key_file: Path, rows: list[str], named: str
) -> None:
    first, second = files_of(exams)
    labels = labels_csv(tmp_path, *(row.format(first=first, second=second) for row in rows))
    with pytest.raises(ConfigError) as raised:
        deid.run(config(tmp_path / "root", exams, key_file, labels=labels))
    assert named in str(raised.value)
    assert not any(word in str(raised.value) for word in ("DOE", "sideways", first))


def test_a_labels_file_without_its_columns_is_refused(tmp_path: Path, exams: Path, key_file: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("name,class\nx,a4c\n")
    with pytest.raises(ConfigError, match="file,view"):
        deid.run(config(tmp_path / "root", exams, key_file, labels=str(path)))


def test_another_key_another_file_or_other_labels_are_another_result(
    tmp_path: Path, exams: Path, key_file: Path
) -> None:
    first, _ = files_of(exams)
    other = tmp_path / "other.key"
    other.write_text(KEY[::-1])
    labels = labels_csv(tmp_path, f"{first},a2c")
    root = tmp_path / "root"
    same = [deid.run(config(root, exams, key_file)).key for _ in range(2)]
    others = [deid.run(config(root, exams, other)).key, deid.run(config(root, exams, key_file, labels=labels)).key]
    more = tmp_path / "more"
    write_patient(more, 5, views=["plax"], frames=8)
    others.append(deid.run(config(root, more, key_file)).key)
    assert len({*same, *others}) == 4


def test_the_key_is_in_nothing_that_the_stage_writes(tmp_path: Path, exams: Path, key_file: Path) -> None:
    root = tmp_path / "root"
    deid.run(config(root, exams, key_file))
    for path in root.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert KEY.encode() not in content
            assert bytes.fromhex(KEY) not in content


def test_quarantine_lies_apart_from_what_travels_and_only_its_owner_enters(tmp_path: Path, key_file: Path) -> None:
    source = tmp_path / "mixed"
    write_patient(source, 5, views=["plax"], frames=8)
    clip = next(path for path in source.rglob("IM*"))
    broken = pydicom.dcmread(clip)
    broken.SOPInstanceUID = f"{broken.SOPInstanceUID}.1"
    broken.file_meta.MediaStorageSOPInstanceUID = broken.SOPInstanceUID
    broken.PixelData = broken.PixelData[:2000]
    broken.save_as(source / "broken")
    done = deid.run(config(tmp_path / "root", source, key_file))
    assert done.counts["quarantined"] == 1
    apart = tmp_path / "root" / "quarantine"
    assert any(path.is_file() for path in apart.rglob("*"))
    assert stat.S_IMODE(apart.stat().st_mode) == 0o700
    assert not list(done.path.rglob("quarantine"))
