"""`echoplane measure` on a cine: files on disk as other people's programs read them."""

import csv
import json
import shutil
import subprocess
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom
import pytest

from echoplane import cli
from echoplane.structured_report import TYPE_2
from echoplane.tasks.cmr_segmentation import Segmentation, outputs
from echoplane.tasks.cmr_segmentation.outputs.dicom import as_report
from tests.tiny_cine import beating_heart, make_tiny_cine_bundle, slice_file

AFFINE = np.array([[-1.4, 0.1, -3, 90], [0.2, 1.3, 4, -80], [0.1, -0.5, 8, -10], [0, 0, 0, 1]])

PATIENT = {"PatientID": "P1", "PatientName": "Test^Patient", "PatientBirthDate": "", "PatientSex": "O"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_cine_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def cine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures, _ = beating_heart()
    image = nibabel.Nifti1Image(pictures.transpose(3, 2, 1, 0), AFFINE)
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = 70
    path = tmp_path_factory.mktemp("cine") / "sa.nii.gz"
    nibabel.save(image, path)
    return path


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, cine: Path, bundle: Path) -> Path:
    out = tmp_path_factory.mktemp("measured") / "out"
    assert cli.main(["measure", str(cine), "--out", str(out), "--bundle", str(bundle)]) == 0
    return out


def test_the_mask_is_on_the_input_grid_and_right(measured: Path, cine: Path) -> None:
    mask, source = nibabel.load(measured / "mask.nii.gz"), nibabel.load(cine)
    assert mask.shape == source.shape
    assert np.array_equal(mask.affine, source.affine)
    _, labels = beating_heart()
    assert np.array_equal(np.asarray(mask.dataobj).transpose(3, 2, 1, 0), labels)


def test_json_and_csv_hold_the_volumes_of_the_mask(measured: Path) -> None:
    found = json.loads((measured / "measures.json").read_text())
    mask = nibabel.load(measured / "mask.nii.gz")
    ml = np.prod(mask.header.get_zooms()[:3]) / 1000
    lv_T = (np.asarray(mask.dataobj) == 1).sum(axis=(0, 1, 2)) * ml
    assert found["ed_phase"] == 0
    assert found["es_phase"] == int(lv_T.argmin()) == 6
    assert found["measures"]["lvedv_ml"] == pytest.approx(lv_T[0], rel=1e-3)
    assert found["measures"]["lvesv_ml"] == pytest.approx(lv_T.min(), rel=1e-3)
    rate = 60_000 / (12 * 70)
    assert found["measures"]["lvco_l_min"] == pytest.approx((lv_T[0] - lv_T.min()) * rate / 1000, rel=1e-3)
    assert found["curves"]["lv-cavity"]["values"] == pytest.approx(lv_T.tolist(), rel=1e-3)
    (row,) = csv.DictReader((measured / "measures.csv").read_text().splitlines())
    assert float(row["LVEDV (mL)"]) == pytest.approx(lv_T[0], abs=0.01)
    assert set(row) >= {"LVESV (mL)", "LVSV (mL)", "LVEF (%)", "LVCO (L/min)", "LVM (g)", "RVEDV (mL)", "LAV max (mL)"}
    assert row["LAV max (mL)"] == ""


def test_the_report_shows_contours_loop_and_curves_without_another_file(measured: Path) -> None:
    page = (measured / "report.html").read_text()
    assert "RV ejection fraction (doubtful)" in page  # none was found
    assert "LV ejection fraction</span>" in page
    assert page.count("data:image/png;base64,") == 2
    assert page.count("data:image/gif;base64,") == 1
    assert page.count("<polyline") == 2, "no right ventricle, no curve of it"
    assert "http" not in page.replace("http-equiv", "")


def test_measures_are_indexed_if_the_body_is_stated(tmp_path: Path, bundle: Path, cine: Path, measured: Path) -> None:
    unknown = json.loads((measured / "measures.json").read_text())
    assert unknown["measures"]["lvedvi_ml_m2"] is None
    assert "height and weight" in unknown["body"]["missing"]
    assert "sex" in unknown["reference"]["missing"]
    arguments = ["measure", str(cine), "--out", str(tmp_path / "o"), "--bundle", str(bundle)]
    assert cli.main([*arguments, "--height-cm", "180", "--weight-kg", "80", "--sex", "F"]) == 0
    found = json.loads((tmp_path / "o" / "measures.json").read_text())
    assert found["measures"]["lvedvi_ml_m2"] == pytest.approx(found["measures"]["lvedv_ml"] / 2, abs=0.001)
    assert found["reference"]["ranges"]["lvef_percent"] == [51, 71]
    assert "51 to 71" in (tmp_path / "o" / "report.html").read_text()


def test_a_header_that_states_the_body_indexes_by_it_and_a_person_may_correct_it(tmp_path: Path, bundle: Path) -> None:
    body = {"PatientSize": 1.8, "PatientWeight": 80, "PatientIdentityRemoved": "YES"}
    write_series(tmp_path / "series", beating_heart(phases=3)[0], **body)
    arguments = ["measure", str(tmp_path / "series"), "--out", str(tmp_path / "o"), "--bundle", str(bundle)]
    for more, surface_m2 in (([], 2.0), (["--weight-kg", "20"], 1.0)):
        assert cli.main([*arguments, *more]) == 0
        found = json.loads((tmp_path / "o" / "measures.json").read_text())
        assert found["body"]["surface_m2"] == pytest.approx(surface_m2)
        assert found["input"]["pseudonym"] == PATIENT["PatientID"]


def test_the_report_says_what_was_measured_when_and_by_which_model(measured: Path) -> None:
    found, page = json.loads((measured / "measures.json").read_text()), (measured / "report.html").read_text()
    for text in (found["input"]["digest"][:16], found["model"]["bundle"][:16], found["model"]["date"]):
        assert text in page
    assert "the identity was removed" in page, "this file names nobody, and does not say that it is without identity"
    assert found["wall"]["missing"] in page, "no right ventricle, no segments"


def test_an_unusable_cine_ends_with_three_and_a_reason(tmp_path: Path, bundle: Path, capsys) -> None:
    pictures, _ = beating_heart(phases=2)
    nibabel.save(nibabel.Nifti1Image(pictures[:1].transpose(3, 2, 1, 0), AFFINE), tmp_path / "one.nii.gz")
    code = cli.main(["measure", str(tmp_path / "one.nii.gz"), "--out", str(tmp_path / "o"), "--bundle", str(bundle)])
    assert code == 3
    assert "one phase" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_without_spacing_the_figures_are_ratios(tmp_path: Path, bundle: Path) -> None:
    pictures, _ = beating_heart(phases=2)
    nibabel.save(nibabel.Nifti1Image(pictures.transpose(3, 2, 1, 0), None), tmp_path / "c.nii.gz")
    assert cli.main(["measure", str(tmp_path / "c.nii.gz"), "--out", str(tmp_path / "o"), "--bundle", str(bundle)]) == 0
    found = json.loads((tmp_path / "o" / "measures.json").read_text())
    assert found["measures"]["lvedv_ml"] is None
    assert found["measures"]["lvef_percent"] is not None
    assert found["curves"]["lv-cavity"]["unit"] == "pixels"


def test_a_few_phases_have_no_cardiac_output_whatever_holds_them(tmp_path: Path, bundle: Path) -> None:
    pictures, _ = beating_heart(phases=5)
    write_series(tmp_path / "series", pictures, HeartRate=72)
    image = nibabel.Nifti1Image(pictures.transpose(3, 2, 1, 0), AFFINE)
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = 30
    nibabel.save(image, tmp_path / "c.nii.gz")
    for name in ("series", "c.nii.gz"):
        out = tmp_path / f"o-{name}"
        assert cli.main(["measure", str(tmp_path / name), "--out", str(out), "--bundle", str(bundle)]) == 0
        found = json.loads((out / "measures.json").read_text())
        assert found["measures"]["lvco_l_min"] is None
        assert found["heart_rate_bpm"] is None
        assert any("no cardiac output" in warning for warning in found["warnings"])


def test_what_is_no_heart_is_flagged(tmp_path: Path, bundle: Path) -> None:
    nibabel.save(
        nibabel.Nifti1Image(np.full((72, 72, 5, 3), 100, np.uint8) + np.arange(3, dtype=np.uint8), AFFINE),
        tmp_path / "c.nii.gz",
    )
    code = cli.main(["measure", str(tmp_path / "c.nii.gz"), "--out", str(tmp_path / "o"), "--bundle", str(bundle)])
    found = json.loads((tmp_path / "o" / "measures.json").read_text())
    assert code == 0
    assert found["flags"]


def write_series(folder: Path, pictures: np.ndarray, **changes) -> dict[str, tuple[int, int]]:
    """A file a slice and phase, named so; where each SOP instance UID lies (phase, slice)."""
    folder.mkdir()
    uids = {}
    for t, z in np.ndindex(*pictures.shape[:2]):
        name = f"{t}-{z}"
        slice_file(folder, name, 9.0 * z, 40.0 * t, pictures[t, z].astype(np.uint16), **PATIENT, **changes)
        uids[str(pydicom.dcmread(folder / name).SOPInstanceUID)] = (t, z)
    return uids


def test_dicom_objects_hold_masks_and_figures_as_highdicom_reads_them(tmp_path: Path, bundle: Path) -> None:
    pictures, labels = beating_heart(phases=3)
    uids = write_series(tmp_path / "series", pictures)
    out = tmp_path / "o"
    arguments = ["measure", str(tmp_path / "series"), "--out", str(out), "--bundle", str(bundle), "--dicom", "true"]
    assert cli.main(arguments) == 0
    measured = json.loads((out / "measures.json").read_text())
    for name in ("ed", "es"):
        segmentation = highdicom.seg.segread(out / f"segmentation-{name}.dcm")
        phase = [uid for uid, (t, _) in uids.items() if t == measured[f"{name}_phase"]]
        found = segmentation.get_pixels_by_source_instance(phase, combine_segments=True)
        assert np.array_equal(found, np.stack([labels[uids[uid]] for uid in phase]))
    assert str(segmentation.PatientID) == PATIENT["PatientID"]
    report = highdicom.sr.srread(out / "report.dcm")
    groups = report.content.get_image_measurement_groups()
    assert [group.finding_type.value for group in groups] == ["87878005"], "no right ventricle, no group of it"
    figures = {m.name.value: m.value for m in groups[0].get_measurements()}
    measures = measured["measures"]
    assert figures["8821-1"] == pytest.approx(measures["lvedv_ml"], abs=0.01)
    assert figures["8811-2"] == pytest.approx(measures["lvef_percent"], abs=0.01)
    assert measures["rvedv_ml"] is None
    (comments,) = [c for c in report.content[0].ContentSequence if c.name.meaning == "Qualitative Evaluations"]
    said = [comment.value for comment in comments.ContentSequence]
    assert said[0] == measured["research_use"]
    assert (
        [f"Flag: {flag['sentence']}" for flag in measured["flags"]] == [s for s in said if s.startswith("Flag")] != []
    )
    assert [f"Warning: {each}." for each in measured["warnings"]] == [s for s in said if s.startswith("Warning")] != []


def test_unequal_phases_make_dicom_objects_too(tmp_path: Path, bundle: Path) -> None:
    uids = write_series(tmp_path / "series", beating_heart(phases=4)[0])
    (tmp_path / "series" / "1-2").unlink()
    arguments = ["measure", str(tmp_path / "series"), "--out", str(tmp_path / "o"), "--bundle", str(bundle)]
    assert cli.main([*arguments, "--dicom", "true"]) == 0
    ed = highdicom.seg.segread(tmp_path / "o" / "segmentation-ed.dcm")
    assert {uids[uid] for _, _, uid in ed.get_source_image_uids()} == {(0, z) for z in range(5)}


@pytest.mark.parametrize("name", ["FrameOfReferenceUID", "PixelSpacing", "SliceThickness"])
@pytest.mark.parametrize("value", [None, ""])
def test_m9_figures_are_written_if_no_segmentation_can_be(
    tmp_path: Path, bundle: Path, name: str, value: str | None
) -> None:
    write_series(tmp_path / "series", beating_heart(phases=2, slices=3)[0])
    for path in (tmp_path / "series").iterdir():
        image = pydicom.dcmread(path)
        if value is None:
            delattr(image, name)
        else:
            setattr(image, name, value)
        image.save_as(path)
    arguments = ["measure", str(tmp_path / "series"), "--out", str(tmp_path / "o"), "--bundle", str(bundle)]
    assert cli.main([*arguments, "--dicom", "true"]) == 0
    found = json.loads((tmp_path / "o" / "measures.json").read_text())
    assert found["measures"]["lvef_percent"] is not None
    assert sum(name in warning and "no DICOM segmentation" in warning for warning in found["warnings"]) == 2
    assert not list((tmp_path / "o").glob("segmentation-*"))
    assert highdicom.sr.srread(tmp_path / "o" / "report.dcm").content.get_image_measurement_groups()


def test_m9_a_series_per_slice_gets_segmentations_that_refer_to_each(tmp_path: Path, bundle: Path) -> None:
    pictures, labels = beating_heart(phases=2, slices=3)
    uids = write_series(tmp_path / "series", pictures)
    for path in (tmp_path / "series").iterdir():
        image = pydicom.dcmread(path)
        image.SeriesInstanceUID += f".{path.name[-1]}"
        image.save_as(path)
    out = tmp_path / "o"
    arguments = ["measure", str(tmp_path / "series"), "--out", str(out), "--bundle", str(bundle), "--dicom", "true"]
    assert cli.main(arguments) == 0
    segmentation = highdicom.seg.segread(out / "segmentation-ed.dcm")
    ed = json.loads((out / "measures.json").read_text())["ed_phase"]
    phase = [uid for uid, (t, _) in uids.items() if t == ed]
    found = segmentation.get_pixels_by_source_instance(phase, combine_segments=True)
    assert np.array_equal(found, np.stack([labels[uids[uid]] for uid in phase]))
    referenced = {item.SeriesInstanceUID for item in segmentation.ReferencedSeriesSequence}
    assert len(referenced) == 3


def test_m9_a_cine_that_is_no_dicom_gives_figures_and_a_reason(tmp_path: Path, bundle: Path, cine: Path) -> None:
    arguments = ["measure", str(cine), "--out", str(tmp_path / "o"), "--bundle", str(bundle), "--dicom", "true"]
    assert cli.main(arguments) == 0
    found = json.loads((tmp_path / "o" / "measures.json").read_text())
    assert any("no DICOM objects were written" in warning for warning in found["warnings"])


def test_m16_the_two_segmentations_are_told_apart_and_the_report_refers_to_both(tmp_path: Path, bundle: Path) -> None:
    write_series(tmp_path / "series", beating_heart(phases=3)[0])
    out = tmp_path / "o"
    arguments = ["measure", str(tmp_path / "series"), "--out", str(out), "--bundle", str(bundle), "--dicom", "true"]
    assert cli.main(arguments) == 0
    ed, es = (pydicom.dcmread(out / f"segmentation-{name}.dcm") for name in ("ed", "es"))
    for attribute in ("SeriesNumber", "SeriesDescription", "SeriesInstanceUID", "ContentLabel", "ContentDescription"):
        assert ed[attribute].value != es[attribute].value
    for one, other in zip(ed.SegmentSequence, es.SegmentSequence, strict=True):
        assert one.SegmentLabel != other.SegmentLabel
        assert one.RecommendedDisplayCIELabValue != other.RecommendedDisplayCIELabValue
    report = highdicom.sr.srread(out / "report.dcm")
    (group,) = report.content.get_image_measurement_groups()
    referred = {
        m.name.value: {item.ReferencedSOPInstanceUID for item in image.ReferencedSOPSequence}
        for m in group.get_measurements()
        for image in m.referenced_images
    }
    assert referred["8821-1"] == {ed.SOPInstanceUID}
    assert referred["8823-7"] == {es.SOPInstanceUID}
    evidence = {
        instance.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert {ed.SOPInstanceUID, es.SOPInstanceUID} <= evidence


def figures_of(out: Path) -> dict:
    return json.loads((out / "measures.json").read_text())


def test_masks_that_a_person_edited_are_measured_again(tmp_path: Path, measured: Path, cine: Path) -> None:
    edited = tmp_path / "edited"
    edited.mkdir()
    mask = nibabel.load(measured / "mask.nii.gz")
    labels = np.asarray(mask.dataobj).copy()
    labels[:, :, 0][labels[:, :, 0] == 1] = 0
    nibabel.save(nibabel.Nifti1Image(labels, mask.affine, mask.header), edited / "mask.nii.gz")
    arguments = ["measure", str(cine), "--out", str(tmp_path / "o"), "--masks", str(edited)]
    assert cli.main(arguments) == 0
    ml = np.prod(mask.header.get_zooms()[:3]) / 1000
    found = figures_of(tmp_path / "o")
    assert found["measures"]["lvedv_ml"] == pytest.approx((labels[..., 0] == 1).sum() * ml, rel=1e-3)
    assert found["model"]["bundle"] == "none"
    assert found["expected_dice"] is None
    assert "The network expects" not in (tmp_path / "o" / "report.html").read_text()
    assert any("masks as they are" in warning for warning in found["warnings"])
    assert len(set(found["warnings"])) == len(found["warnings"])


def test_masks_of_another_grid_are_refused(tmp_path: Path, cine: Path, capsys) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((8, 8, 5, 12), np.uint8), AFFINE), tmp_path / "mask.nii.gz")
    assert cli.main(["measure", str(cine), "--out", str(tmp_path / "o"), "--masks", str(tmp_path)]) == 3
    assert "Edit the mask on the grid of the cine" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_person_chooses_phases_and_excludes_slices(tmp_path: Path, bundle: Path, measured: Path, cine: Path) -> None:
    arguments = ["measure", str(cine), "--bundle", str(bundle), "--out", str(tmp_path / "o")]
    curve = figures_of(measured)["curves"]["lv-cavity"]["values"]
    assert cli.main([*arguments, "--ed", "11", "--es", "3"]) == 0
    found = figures_of(tmp_path / "o")
    assert (found["ed_phase"], found["es_phase"]) == (11, 3)
    assert found["measures"]["lvedv_ml"] == pytest.approx(curve[11])
    assert found["measures"]["lvesv_ml"] == pytest.approx(curve[3])
    assert cli.main([*arguments, "--exclude-slices", "3"]) == 0
    found = figures_of(tmp_path / "o")
    assert found["measures"]["lvedv_ml"] == pytest.approx(curve[0], rel=0.02)
    assert not (np.asarray(nibabel.load(tmp_path / "o" / "mask.nii.gz").dataobj)[:, :, 2]).any()
    for wrong in (["--ed", "12"], ["--exclude-slices", "6"], ["--exclude-slices", "1,2,3"], ["--exclude-slices", "a"]):
        assert cli.main([*arguments, *wrong]) == 2


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian's dicom3tools) is not installed")
def test_dciodvfy_finds_no_error_in_the_dicom_objects(tmp_path: Path, bundle: Path) -> None:
    write_series(tmp_path / "series", beating_heart(phases=3)[0])
    out = tmp_path / "o"
    arguments = ["measure", str(tmp_path / "series"), "--out", str(out), "--bundle", str(bundle), "--dicom", "true"]
    assert cli.main(arguments) == 0
    for path in out.glob("*.dcm"):
        checked = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        errors = [line for line in checked.stderr.splitlines() if line.startswith("Error")]
        assert errors == [], path.name


def test_each_chamber_has_its_own_group_in_the_report(tmp_path: Path) -> None:
    write_series(tmp_path / "series", beating_heart(phases=2, slices=1)[0])
    image = pydicom.dcmread(tmp_path / "series" / "0-0")
    image.update(dict.fromkeys(set(TYPE_2) - set(image.dir()), ""))
    measures = {"lvedv_ml": 120.0, "rvedv_ml": 130.0, "lav_max_ml": 60.0, "lvef_percent": None}
    as_report(Segmentation("measured", 1.0, {}, measures=measures), [image]).save_as(tmp_path / "report.dcm")
    report = highdicom.sr.srread(tmp_path / "report.dcm")
    found = {
        group.finding_type.meaning: [(m.name.value, m.value) for m in group.get_measurements()]
        for group in report.content.get_image_measurement_groups()
    }
    assert found == {
        "Left ventricle": [("8821-1", 120)], "Right ventricle": [("8822-9", 130)], "Left atrium": [("122408", 60)]
    }  # fmt: skip


def test_a_folder_that_is_used_again_holds_one_answer_and_ones_own_files(
    tmp_path: Path, bundle: Path, cine: Path
) -> None:
    write_series(tmp_path / "series", beating_heart(phases=3)[0])
    out = tmp_path / "o"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "mask-4-chamber.nii.gz").write_text("of somebody else's heart")
    arguments = ["--out", str(out), "--bundle", str(bundle)]
    assert cli.main(["measure", str(tmp_path / "series"), *arguments, "--dicom", "true"]) == 0
    alone = {"measures.json", "measures.csv", "mask.nii.gz", "report.html", "notes.txt"}
    assert {path.name for path in out.iterdir()} == alone | {"segmentation-ed.dcm", "segmentation-es.dcm", "report.dcm"}
    assert cli.main(["measure", str(cine), *arguments]) == 0
    assert {path.name for path in out.iterdir()} == alone


def test_a_run_that_fails_leaves_the_earlier_answer_whole(
    tmp_path: Path, bundle: Path, cine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--out", str(tmp_path / "o"), "--bundle", str(bundle)]
    assert cli.main(["measure", str(cine), *arguments]) == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "o").iterdir()}
    write_series(tmp_path / "series", beating_heart(phases=3)[0])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(outputs, "write_report", full)
        assert cli.main(["measure", str(tmp_path / "series"), *arguments]) == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "o").iterdir()} == before


@pytest.mark.parametrize("out", ["series", "series/measured", "link/measured"])
def test_results_among_the_files_of_the_cine_are_refused(tmp_path: Path, bundle: Path, capsys, out: str) -> None:
    write_series(tmp_path / "series", beating_heart(phases=2, slices=3)[0])
    (tmp_path / "link").symlink_to(tmp_path / "series")
    before = sorted(tmp_path.rglob("*"))
    arguments = ["measure", str(tmp_path / "series"), "--out", str(tmp_path / out), "--bundle", str(bundle)]
    assert cli.main(arguments) == 2
    assert "give a folder outside of it" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_cine_is_never_replaced_by_a_result(tmp_path: Path, bundle: Path, cine: Path) -> None:
    (tmp_path / "mask.nii.gz").write_bytes(cine.read_bytes())
    arguments = ["--out", str(tmp_path), "--bundle", str(bundle)]
    assert cli.main(["measure", str(tmp_path / "mask.nii.gz"), *arguments]) == 2
    assert (tmp_path / "mask.nii.gz").read_bytes() == cine.read_bytes()
