"""The service over HTTP, as a client meets it: what it answers."""

from pathlib import Path

import httpx
import numpy as np
import pytest
from pydicom.data import get_testdata_file

from echoplane import bundle as bundles
from echoplane import runtimes
from echoplane.study.dicom import read_dicom
from tests import dicom_files as dicom
from tests.serving_checks import TASK, assert_answer, assert_no_patient, assert_problem, send

ECHO = Path(__file__).parents[3] / "shared" / "data" / "echo"


def test_a_clip_gets_a_view_with_everything_that_says_where_it_came_from(
    client: httpx.Client, bundle_folder: Path
) -> None:
    body = assert_answer(send(client, dicom.jpeg_clip()))
    bundle = bundles.read(bundle_folder)
    assert body["task"] == "echo-view-video"
    assert body["model"] == {
        "name": "echo-view-video",
        "version": bundle.id[:12],
        "bundle": bundle.id,
        "runtime": "openvino",
        "precision": "f32",
    }
    (label,) = [label for label in bundle.spec.labels if label.name == body["label"]]
    assert body["title"] == label.title
    assert body["code"] == {"value": label.code, "scheme": label.scheme, "meaning": label.meaning}
    assert body["threshold"] == bundle.thresholds.abstain_below
    assert body["warnings"] == ["no usable scan region in the file: the whole image was used, text included"]
    assert 0 < body["timings_ms"]["inference"] < body["timings_ms"]["total"]


def test_http_gives_the_probabilities_that_the_library_gives(client: httpx.Client, bundle_folder: Path) -> None:
    bundle = bundles.read(bundle_folder)
    model = runtimes.open(bundle, runtimes.InferenceSettings(precision="f32"))
    for seed in range(3):
        data = dicom.jpeg_clip(dicom.moving_disc(seed=seed))
        expected = runtimes.answer(read_dicom(data), model).result
        body = assert_answer(send(client, data))
        assert body["label"] == expected.label
        assert body["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)
    model.runtime.close()


def test_a_raw_dicom_body_is_answered_as_a_form_is(client: httpx.Client) -> None:
    data = dicom.jpeg_clip()
    raw = client.post(TASK, content=data, headers={"content-type": "application/dicom"})
    assert assert_answer(raw)["probabilities"] == assert_answer(send(client, data))["probabilities"]


def clips_that_are_answered() -> dict[str, bytes]:
    disc_THW = dicom.moving_disc()
    return {
        "500 frames": dicom.jpeg_clip(dicom.moving_disc(500, 60, 80)),
        "16 bits": dicom.grey_clip(disc_THW.astype(np.uint16) * 200),
        "RLE": dicom.rle_clip(disc_THW),
        "palette": dicom.palette_clip(disc_THW),
        "one row high": dicom.grey_clip(disc_THW[:, :1]),
        "four frames": dicom.grey_clip(disc_THW[:4]),
        "negative regions": dicom.jpeg_clip(change=_hostile_region),
        "huge frame time": dicom.jpeg_clip(change=dicom.setting(FrameTime="99999999")),
    }


def _hostile_region(dataset: dicom.Dataset) -> None:
    region = dicom.Dataset()
    region.RegionSpatialFormat = region.RegionDataType = 1
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 4_000_000_000, 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 4_294_967_295, 7
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = float("nan")
    dataset.SequenceOfUltrasoundRegions = [region]


@pytest.mark.parametrize("name", clips_that_are_answered())
def test_unusual_clips_are_answered(client: httpx.Client, name: str) -> None:
    assert_answer(send(client, clips_that_are_answered()[name]))


def test_a_clip_without_frame_time_is_answered_with_a_warning(client: httpx.Client) -> None:
    body = assert_answer(send(client, dicom.jpeg_clip(change=dicom.without("FrameTime"))))
    assert any("frame time" in warning for warning in body["warnings"])


def test_a_very_large_picture_is_answered_or_told_to_be_too_large(client: httpx.Client) -> None:
    frames_THW = np.zeros((4, 3000, 4000), np.uint8)
    frames_THW[:, 1000:2000, 1000:2000] = 200
    assert_answer(send(client, dicom.jpeg_clip(frames_THW)))
    assert_problem(send(client, dicom.grey_clip(change=dicom.setting(Rows=65_535, Columns=65_535))), 413, "too-large")


def test_a_study_answers_each_file_on_its_own(client: httpx.Client) -> None:
    contents = [dicom.jpeg_clip(), b"not an image", dicom.jpeg_clip(dicom.moving_disc()[:1]), dicom.grey_clip()]
    response = client.post("/v1/study", files=[("file", (f"{dicom.PATIENT}.dcm", data)) for data in contents])
    assert response.status_code == 200
    assert_no_patient(response)
    files = response.json()["files"]
    assert [file["index"] for file in files] == [0, 1, 2, 3]
    assert [file["problem"] and file["problem"]["status"] for file in files] == [None, 400, 422, None]
    assert [file["answer"] and file["answer"]["task"] for file in files] == [
        *("echo-view-video", None, None, "echo-view-video")
    ]
    assert len({file["answer"]["request_id"] for file in files if file["answer"]}) == 1


def test_a_study_of_too_many_files_is_refused(client: httpx.Client) -> None:
    assert_problem(client.post("/v1/study", files=[("file", ("a", b"x"))] * 6), 400, "bad-request")
    assert_problem(client.post("/v1/study", files=[("file", ("a", b"x"))] * 60), 400, "bad-request")


def test_metrics_count_answers_problems_and_stages(client: httpx.Client, bundle_folder: Path) -> None:
    def value(name: str, *labels: str) -> float:
        lines = client.get("/metrics").text.splitlines()
        return sum(float(x.split()[-1]) for x in lines if x.startswith(name + "{") and all(i in x for i in labels))

    version = f'version="{bundles.read(bundle_folder).id[:12]}"'
    refused = ("echoplane_problems_total", 'type="not-an-image"', 'task="echo-view-video"')
    before = [value("echoplane_answers_total", version), value(*refused)]
    body = assert_answer(send(client, dicom.jpeg_clip()))
    send(client, b"not an image")
    assert value("echoplane_answers_total", version) == before[0] + 1
    assert value("echoplane_answers_total", f'view="{body["label"]}"', 'outcome="answered"') >= 1
    assert value(*refused) == before[1] + 1
    assert value("echoplane_stage_seconds_count", 'stage="inference"') >= 1
    assert value("echoplane_model_info", version, 'runtime="openvino"', 'precision="f32"') == 1
    assert value("echoplane_slot_ready") == 1


def test_models_names_the_model_and_its_labels(client: httpx.Client, bundle_folder: Path) -> None:
    (model,) = client.get("/v1/models").json()["models"]
    assert (model["task"], model["ready"], model["problem"], model["source"]) == (
        "echo-view-video",
        True,
        None,
        "folder",
    )
    assert model["model"]["bundle"] == bundles.read(bundle_folder).id
    assert len(model["labels"]) == 12
    assert str(bundle_folder.parent) not in client.get("/v1/models").text


def test_the_docs_page_needs_no_other_site_and_names_every_route(client: httpx.Client) -> None:
    page, api = client.get("/docs"), client.get("/openapi.json").json()
    assert page.headers["content-type"].startswith("text/html")
    assert "<script" not in page.text
    assert "://" not in page.text.replace("http://www.w3.org", "")
    for path in api["paths"]:
        assert path in page.text
    around = {"/v1/explain/echo-view-video", "/v1/frames", "/v1/feedback", "/v1/dicom", "/v1/history"}
    operated = {"/livez", "/readyz", "/metrics", "/docs", "/openapi.json"}
    assert set(api["paths"]) == {"/v1/echo-view-video", "/v1/study", "/v1/models"} | around | operated
    for name, schema in api["components"]["schemas"].items():
        assert schema["description"], name
        assert all(field["description"] for field in schema["properties"].values()), f"E20: {name}"
    assert "apical four chamber" in page.text, "E20: an example"
    content = api["paths"][TASK]["post"]["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "application/dicom"}


@pytest.mark.skipif(not ECHO.exists(), reason="the real echo files are not beside this checkout")
@pytest.mark.parametrize("path", sorted(ECHO.glob("*.dcm")), ids=lambda path: path.name[:24])
def test_every_real_echo_gets_an_answer_or_an_honest_refusal(client: httpx.Client, path: Path) -> None:
    response = send(client, path.read_bytes())
    frames = read_dicom(path).only.frame_count
    assert_problem(response, 422, "unusable-study") if frames == 1 else assert_answer(response)


REAL_US = {
    "color3d_jpeg_baseline.dcm": 200,
    "examples_ybr_color.dcm": 200,
    "examples_palette.dcm": 422,
    "examples_jpeg2k.dcm": 422,
    "OBXXXX1A_2frame.dcm": 422,
    "US1_UNCI.dcm": 422,
    "CT_small.dcm": 415,
    "MR_small.dcm": 422,
}


@pytest.mark.parametrize("name", REAL_US)
def test_pydicoms_files_get_an_answer_or_an_honest_refusal(client: httpx.Client, name: str) -> None:
    path = get_testdata_file(name)
    if path is None:
        pytest.skip(f"{name} is not in the installed pydicom-data")
    response = send(client, Path(path).read_bytes())
    assert_answer(response) if REAL_US[name] == 200 else assert_problem(response, REAL_US[name])
