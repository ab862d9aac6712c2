"""The page's part in the service, without a browser: what is open, what the page may load, and the frames it plays."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from prometheus_client import REGISTRY

from echoplane.monitoring import dashboards
from echoplane.settings import ServingSettings
from echoplane.study.cine import Cine, display_turn, turned
from echoplane.study.reading import read_study
from echoplane.tokens import change_tokens, new_token
from serving.api.http.pages import ASSETS, PAGES, WEB
from serving.api.inference import frames
from serving.api.models.slots import Slot
from serving.api.models.sources import FolderSource
from tests import dicom_files as dicom
from tests.serving_app import Asking, posted, tiny_slot
from tests.tiny_cine import beating_heart

SCAN = (20, 30, 100, 150)
"""Top, left, bottom and right of the scan in `with_captions`."""


@pytest.fixture(scope="module")
def slot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slot]:
    with tiny_slot(tmp_path_factory.mktemp("bundle")) as slot:
        yield slot


@pytest.fixture
def ask(slot: Slot) -> Asking:
    return Asking(slot, ServingSettings(), host="127.0.0.1")


def with_captions(frame_count: int = 24) -> bytes:
    """A clip whose header states the scan; white captions lie outside it."""
    frames_THW = dicom.moving_disc(frame_count)
    captioned_THW = np.full_like(frames_THW, 255)
    top, left, bottom, right = SCAN
    captioned_THW[:, top:bottom, left:right] = frames_THW[:, top:bottom, left:right] // 2

    def state_region(dataset: dicom.Dataset) -> None:
        region = dicom.Dataset()
        region.RegionSpatialFormat = region.RegionDataType = 1
        region.RegionLocationMinX0, region.RegionLocationMinY0 = left, top
        region.RegionLocationMaxX1, region.RegionLocationMaxY1 = right - 1, bottom - 1
        dataset.SequenceOfUltrasoundRegions = [region]

    return dicom.grey_clip(captioned_THW, change=state_region)


def unpacked(content: bytes) -> tuple[dict, list[np.ndarray]]:
    """The header of a pack and its decoded pictures (row, column)."""
    size = int.from_bytes(content[:4], "little")
    header, at, pictures = json.loads(content[4 : 4 + size]), 4 + size, []
    for length in header["lengths"]:
        pictures.append(simplejpeg.decode_jpeg(content[at : at + length], "GRAY")[..., 0])
        at += length
    assert at == len(content)
    return header, pictures


def test_the_pages_and_their_assets_are_open_and_load_nothing_from_elsewhere(slot: Slot, tmp_path: Path) -> None:
    ask = Asking(slot, ServingSettings(token_file=str(tmp_path / "none.json")))
    for path in PAGES:
        page = ask("GET", path)
        assert page.status_code == 200, path
        policy = page.headers.get_list("content-security-policy")
        assert len(policy) == 1
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy[0]
        assert "unsafe" not in policy[0]
        assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|style=|javascript:|<style", page.text)
        assert set(re.findall(r'(?:src|href)="(/web/[^"]*)"', page.text)) <= {f"/web/{name}" for name in ASSETS}
        assert "Not a medical device" in page.text
    for name in ASSETS:
        asset = ask("GET", f"/web/{name}")
        assert asset.status_code == 200, name
        assert "innerHTML" not in asset.text
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", asset.text), name
    assert ask("GET", "/v1/models").status_code == 401
    assert ask("POST", "/v1/frames", **posted(b"x")).status_code == 401


def test_every_file_of_the_page_is_served() -> None:
    on_disk = {path.name for path in WEB.iterdir() if path.is_file()}
    assert on_disk == {*ASSETS, *PAGES.values(), "docs.html", "layout.html"}


def test_frames_show_the_scan_region_alone_and_every_frame_of_it(ask: Asking) -> None:
    response = ask("POST", "/v1/frames", **posted(with_captions()))
    assert response.headers["content-type"] == "application/vnd.echoplane.frames"
    header, pictures = unpacked(response.content)
    assert header["region"] == list(SCAN)
    assert header["region_is_known"]
    assert (header["frame_count"], header["step"], header["frame_time_ms"]) == (24, 1, 40.0)
    assert {picture.shape for picture in pictures} == {(80, 120)} == {(header["rows"], header["columns"])}
    assert max(picture.max() for picture in pictures) < 200, "a white caption is in the picture"
    top, left, bottom, right = SCAN
    original_THW = dicom.moving_disc()[:, top:bottom, left:right] // 2
    errors = [np.abs(a.astype(int) - b).mean() for a, b in zip(pictures, original_THW, strict=True)]
    assert max(errors) < 6


def test_a_long_clip_is_thinned_out_and_keeps_its_speed() -> None:
    clip = read_study(dicom.jpeg_clip(dicom.moving_disc(500, 60, 80))).only
    header = frames.pack(clip).header
    assert (header.step, len(header.lengths)) == (3, 167)
    assert header.frame_time_ms == 120.0


def test_a_large_picture_is_made_smaller() -> None:
    frames_THW = np.zeros((2, 1500, 2000), np.uint8)
    frames_THW[:, 300:900, 300:900] = 200
    header = frames.pack(read_study(dicom.jpeg_clip(frames_THW)).only).header
    assert (header.rows, header.columns) == (540, 720)


def test_a_cine_is_shown_as_its_slices_side_by_side_turned_as_its_masks_will_be() -> None:
    voxels_TZHW, _ = beating_heart()
    axis_affine = np.array([[0, -1.4, 0, 0], [1.4, 0, 0, 0], [0, 0, 9.0, 0], [0, 0, 0, 1]])
    cine = Cine("short-axis", voxels_TZHW, (1.4, 1.4), 9.0, 40.0, affine=axis_affine)
    header, pictures = unpacked(frames.pack_cine(cine).content())
    tiles = header["tiles"]
    assert (tiles["slices"], tiles["across"], tiles["rows"], tiles["columns"]) == (5, 3, 72, 72)
    assert (len(pictures), header["frame_count"], header["frame_time_ms"]) == (12, 12, 40.0)
    assert pictures[0].shape == (2 * 72, 3 * 72)
    turn = display_turn(axis_affine)
    assert tiles["turn"] == list(turn)
    assert any(turn), "the test needs a stack that is turned"
    low, high = np.percentile(turned(voxels_TZHW, turn)[:, :, ::4, ::4], (1, 99.5))
    for z in (0, 4):
        row, column = z // 3 * 72, z % 3 * 72
        shown_HW = np.clip((turned(voxels_TZHW[3, z], turn) - low) * 255 / (high - low), 0, 255)
        assert np.abs(pictures[3][row : row + 72, column : column + 72] - shown_HW).mean() < 4
    assert (pictures[3][72:, 2 * 72 :] < 8).all(), "there is no sixth slice"


def test_a_file_without_frames_to_show_is_refused_with_the_reason(ask: Asking) -> None:
    refused = ask("POST", "/v1/frames", **posted(b"not an image"))
    assert (refused.status_code, refused.json()["type"]) == (400, "urn:echoplane:problem:not-an-image")


def test_frames_need_the_role_predict(slot: Slot, tmp_path: Path) -> None:
    ask = Asking(slot, ServingSettings(token_file=str(tmp_path / "tokens.json")))
    given = {}
    for role in ("predict", "feedback", "operate"):
        given[role], entry = new_token(role, "lakeside", (role,))
        change_tokens(tmp_path / "tokens.json", add=entry)
    statuses = {role: ask("POST", "/v1/frames", given[role], **posted(with_captions())).status_code for role in given}
    assert statuses == {"predict": 200, "feedback": 403, "operate": 403}


def test_a_task_without_a_model_leaves_the_other_answers_to_the_same_file(slot: Slot, tmp_path: Path) -> None:
    empty = Slot("echo-view-image", FolderSource(tmp_path / "nowhere"), {})
    empty.refresh()
    ask = Asking({empty.task: empty, slot.task: slot}, ServingSettings(), host="127.0.0.1")
    body = ask("POST", "/v1/study", files={"file": dicom.jpeg_clip()}).json()
    entries = {(entry["answer"] or {}).get("task"): entry for entry in body["files"]}
    assert set(entries) == {None, slot.task}
    assert entries[None]["problem"]["type"] == "urn:echoplane:problem:no-model"
    assert "echo-view-image" in entries[None]["problem"]["detail"]
    assert entries[slot.task]["answer"]["probabilities"]
    alone = ask("POST", "/v1/echo-view-image", **posted(dicom.jpeg_clip()))
    assert (alone.status_code, alone.json()["type"]) == (503, "urn:echoplane:problem:no-model")


def test_every_panel_of_the_dashboard_draws_a_metric_and_labels_that_exist(ask: Asking) -> None:
    panels = ask("GET", "/web/panels.json").json()
    assert [panel["title"] for panel in panels] == [panel.title for panel in dashboards.SERVICE]
    families = {family.name: family for family in REGISTRY.collect()}
    types = {"rate": "counter", "share": "counter", "quantile": "histogram", "gauge": "gauge", "table": "gauge"}
    for panel in dashboards.SERVICE:
        for name in panel.metrics:
            assert families[name].type == types[panel.kind], panel.title
            labels = REGISTRY._names_to_collectors[name]._labelnames
            used = {panel.by, *panel.columns, *(rule[0] for rule in (panel.where, panel.of) if rule)} - {""}
            assert used <= set(labels), panel.title


def test_the_pages_files_are_counted_as_one_route(ask: Asking) -> None:
    before = ask("GET", "/metrics").text
    for path in ("/", "/dashboard", "/web/page.js"):
        ask("GET", path)
    after = ask("GET", "/metrics").text
    assert "/web/page.js" not in after
    assert counted(after) - counted(before) == 3


def counted(exposition: str) -> float:
    found = re.findall(r'echoplane_requests_total\{method="GET",route="page",status="200"\} (\S+)', exposition)
    return float(found[0]) if found else 0.0
