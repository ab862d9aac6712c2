"""The page as a cardiologist meets it, in a real browser on a running service."""

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pydicom
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from echoplane.monitoring import dashboards
from echoplane.monitoring.feedback import read_feedback
from echoplane.tasks.cmr_segmentation.structures import LV_CAVITY
from echoplane.tokens import change_tokens, new_token
from tests import dicom_files as dicom
from tests.browser import DESK, PHONE, chromium, faults, fetched_axe, needs_chromium
from tests.serving_process import Running, serve
from tests.tiny_bundle import make_tiny_bundle
from tests.tiny_cine import beating_heart, make_tiny_cine_bundle, slice_file

pytestmark = needs_chromium
ROLES = ("predict", "feedback", "operate")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def token_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens") / "tokens.json"


@pytest.fixture(scope="module")
def token(token_file: Path) -> str:
    token, entry = new_token("echo-lab", "lakeside", ROLES)
    change_tokens(token_file, add=entry)
    return token


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, token_file: Path, token: str) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("page")
    bundles = [make_tiny_bundle(folder / "tiny", abstain_below=0.5), make_tiny_cine_bundle(folder / "cine")]
    settings = {
        "ECHOPLANE_BUNDLES": ",".join(map(str, bundles)),
        "ECHOPLANE_PRECISION": "f32",
        "ECHOPLANE_TOKEN_FILE": str(token_file),
        "ECHOPLANE_PREDICTION_LOG": str(folder / "log"),
    }
    with serve(folder, settings) as running:
        yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("files")
    contents = {"clip.dcm": dicom.jpeg_clip(), "other.dcm": dicom.jpeg_clip(dicom.moving_disc(12, seed=3))}
    contents |= {"letter.txt": b"no image"}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


@pytest.fixture
def page(browser: Browser, service: Running) -> Iterator[Page]:
    with browser.new_context(viewport=DESK, base_url=service.url, reduced_motion="reduce") as context:
        page, errors = context.new_page(), []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if "Policy" in message.text else None)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        yield page
        assert errors == []
        assert [url for url in asked if not url.startswith((service.url, "blob:"))] == []


def sign_in(page: Page, token: str) -> None:
    page.goto("/")
    page.get_by_label("Access token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("#drop, #sign-in-problem").filter(visible=True)).to_be_visible()


def test_the_page_asks_for_a_token_and_keeps_it_for_this_tab_alone(page: Page, token: str, browser: Browser) -> None:
    sign_in(page, "echoplane_0000000000000000_wrong")
    expect(page.get_by_role("alert").filter(has_text="unknown or has ended")).to_be_visible()
    page.get_by_label("Access token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Choose files")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Choose files")).to_be_visible()
    assert token not in str(page.context.storage_state())
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Access token")).to_be_visible()


def test_a_clip_is_answered_and_plays(page: Page, token: str, files: list[Path]) -> None:
    sign_in(page, token)
    page.set_input_files("#files", files[0])
    expect(page.locator(".view")).to_be_visible()
    expect(page.locator(".bars").first.locator("li")).to_have_count(5)
    number = page.locator("#frame-number")
    expect(number).to_have_text("1 of 24")
    page.locator("#picture").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(number).to_have_text("3 of 24")
    page.keyboard.press("ArrowLeft")
    expect(number).to_have_text("2 of 24")
    still = page.locator("#picture").screenshot()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    expect(number).not_to_have_text("2 of 24")
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    page.keyboard.press("End")
    expect(number).to_have_text("24 of 24")
    assert page.locator("#picture").screenshot() != still


def test_a_file_that_is_no_study_gets_its_reason_and_the_others_their_answers(
    page: Page, token: str, files: list[Path]
) -> None:
    sign_in(page, token)
    page.set_input_files("#files", files)
    rows = page.locator("#study tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.filter(has_text="letter.txt")).to_contain_text("No answer")
    expect(rows.locator("canvas.thumb")).to_have_count(2)
    page.get_by_role("button", name="letter.txt").click()
    expect(page.locator("#answer .problem")).to_contain_text("This kind of file is not read")
    page.get_by_role("button", name="other.dcm").click()
    expect(page.locator("#frame-number")).to_have_text("1 of 12")


def test_an_explanation_is_drawn_over_the_clip_and_hidden_again(page: Page, token: str, files: list[Path]) -> None:
    sign_in(page, token)
    page.set_input_files("#files", files[0])
    expect(page.locator("#frame-number")).to_have_text("1 of 24")
    assert not is_coloured(page)
    page.get_by_role("button", name="What does it depend on?").click()
    expect(page.locator(".tool .hint").first).to_contain_text("Warm parts matter")
    expect(page.get_by_role("button", name="Hide what it depends on")).to_have_attribute("aria-pressed", "true")
    assert is_coloured(page)
    page.get_by_role("button", name="Hide what it depends on").click()
    expect(page.get_by_role("button", name="What does it depend on?")).to_be_visible()
    page.wait_for_timeout(200)
    assert not is_coloured(page)


def is_coloured(page: Page) -> bool:
    """Returns True if the picture has any colour: the clips are grey, the heat map is not."""
    return page.evaluate("""() => {
        const canvas = document.getElementById("picture");
        const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        for (let k = 0; k < data.length; k += 4) if (Math.abs(data[k] - data[k + 2]) > 20) return true;
        return false;
    }""")


def test_feedback_reaches_the_log_with_its_author(page: Page, token: str, files: list[Path], service: Running) -> None:
    sign_in(page, token)
    page.set_input_files("#files", files[0])
    summary = page.locator(".feedback summary")
    if "Wrong" in summary.inner_text():
        summary.click()
    page.get_by_label("Right view").select_option(label="Apical two chamber")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".kept")).to_have_text("Thank you. Kept as apical two chamber.")
    kept = list(read_feedback(service.log_file.parent / "log", "echo-view-video"))
    assert [(row.label, row.author) for row in kept] == [("a2c", "echo-lab")]


def test_a_picture_that_comes_after_the_answer_leaves_what_was_filled_in(
    page: Page, token: str, files: list[Path]
) -> None:
    sign_in(page, token)
    held: list[Route] = []
    page.route("**/v1/frames", lambda route: held.append(route))
    page.set_input_files("#files", files[0])
    summary = page.locator(".feedback summary")
    if "Wrong" in summary.inner_text():
        summary.click()
    page.get_by_label("Right view").select_option(label="Apical two chamber")
    held[0].continue_()
    expect(page.locator("#screen-note")).to_be_hidden()
    expect(page.get_by_label("Right view")).to_have_value("a2c")


def test_a_folder_and_a_zip_give_a_table_that_can_be_saved(
    page: Page, token: str, files: list[Path], tmp_path: Path
) -> None:
    sign_in(page, token)
    folder = tmp_path / "study"
    folder.mkdir()
    for path in files[:2]:
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "notes.txt").write_text("not a picture")
    page.set_input_files("#folder", folder)
    expect(page.locator("#study h2")).to_have_text("2 of 2 files answered")
    expect(page.locator("#notice")).to_have_text("1 file was left out: neither a picture nor a clip that is read.")
    with zipfile.ZipFile(tmp_path / "study.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files[:2]:
            archive.write(path, f"inner/{path.name}")
    page.set_input_files("#files", tmp_path / "study.zip")
    expect(page.locator("#study h2")).to_have_text("4 of 4 files answered")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save all as CSV").click()
    rows = list(csv.DictReader(saved.value.path().read_text().splitlines()))
    assert [row["file"] for row in rows] == ["clip.dcm", "other.dcm"] * 2
    assert rows[0]["confidence"] == rows[2]["confidence"]
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save all as JSON").click()
    body = json.loads(saved.value.path().read_text())
    assert [len(file["answers"]) for file in body["files"]] == [1] * 4
    assert saved_dicom(page, "Save all as DICOM") == ["SR"]


def saved_dicom(page: Page, button: str) -> list[str]:
    """Returns the modalities of the DICOM objects that a button saves."""
    with page.expect_download() as saved:
        page.get_by_role("button", name=button).click()
    assert saved.value.suggested_filename == "echoplane-dicom.zip"
    with zipfile.ZipFile(saved.value.path()) as archive:
        *objects, answers = archive.namelist()
        assert answers == "answers.json"
        return [pydicom.dcmread(io.BytesIO(archive.read(name))).Modality for name in objects]


def test_a_folder_of_a_cine_is_sent_as_one_study_and_shows_contours_and_volumes(
    page: Page, token: str, tmp_path: Path
) -> None:
    voxels_TZHW, labels_TZHW = beating_heart()
    folder = tmp_path / "cine"
    folder.mkdir()
    for t, z in np.ndindex(voxels_TZHW.shape[:2]):
        slice_file(folder, f"{dicom.PATIENT}-{t}-{z}", 9.0 * z, 50.0 * t, voxels_TZHW[t, z])
    sign_in(page, token)
    page.set_input_files("#folder", folder)
    expect(page.locator("#frame-number")).to_contain_text("of 12")
    volume_ml = (labels_TZHW[0] == LV_CAVITY).sum() * 1.4 * 1.3 * 9 / 1000
    expect(page.locator(".measures")).to_contain_text(f"{volume_ml:.0f} mL")
    expect(page.locator("#answer")).to_contain_text("Wall thickness is not measured")
    expect(page.get_by_role("img", name="Size over the beat")).to_be_visible()
    expect(page.get_by_role("button", name="Save mask.nii.gz")).to_be_visible()
    assert saved_dicom(page, "Save answer as DICOM") == ["SEG", "SEG", "SR"]
    page.wait_for_timeout(500)
    assert is_coloured(page)


def test_the_dashboard_draws_the_services_own_metrics(page: Page, token: str, service: Running) -> None:
    with service.client() as client:
        send = {"files": {"file": dicom.jpeg_clip()}, "headers": {"authorization": f"Bearer {token}"}}
        page.goto("/dashboard")
        page.get_by_label("Access token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        expect(page.locator(".panel")).to_have_count(len(dashboards.SERVICE))
        assert client.post("/v1/study", **send).status_code == 200
        legend = page.locator(".panel", has_text="Requests per minute, by route").locator(".legend")
        expect(legend).to_contain_text("/v1/study", timeout=15_000)
    expect(page.locator(".panel", has_text="Models that answer")).to_contain_text("echo-view-video")


def test_the_dashboards_quantile_and_increase_are_prometheus_own(page: Page) -> None:
    page.goto("/dashboard")
    found = page.evaluate("""async () => {
        const { quantile, parsed, values } = await import("/web/metrics.js");
        const scrape = (time_s, count) => ({ time_s, samples: parsed(`x_total{route="a"} ${count}`) });
        const panel = { kind: "rate", metrics: ["x"], by: "route" };
        return [quantile(0.5, [[1, 10], [2, 30], [Infinity, 40]]), quantile(0.99, [[1, 10], [2, 30], [Infinity, 40]]),
                quantile(0.5, [[1, 0], [Infinity, 0]]),
                ...[30, 5].map((now) => values(panel, scrape(90, now), scrape(60, 10)).get("a"))];
    }""")
    # Half of 40 is the 10th of the 20 between 1 and 2; above the last bound it is that bound; 20 and 5 (since a
    # restart) in 30 s.
    assert found == [1.5, 2, None, 40, 10]


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fetched_axe(tmp_path_factory.mktemp("axe"))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_fault_in_either_theme(
    page: Page, token: str, files: list[Path], axe: str, theme: Literal["light", "dark"]
) -> None:
    page.emulate_media(color_scheme=theme)
    page.goto("/")
    expect(page.get_by_label("Access token")).to_be_visible()
    assert faults(page, axe) == []
    sign_in(page, token)
    page.set_input_files("#files", files)
    expect(page.locator("#study h2")).to_have_text("3 of 3 files answered")
    for summary in page.locator("#answer summary").all():
        if not summary.evaluate("summary => summary.parentElement.open"):
            summary.click()
    assert faults(page, axe) == []
    page.goto("/dashboard")
    expect(page.locator(".panel").first).to_be_visible()
    assert faults(page, axe) == []
    page.set_viewport_size(PHONE)
    assert faults(page, axe) == []


def test_a_phone_shows_all_of_it_without_scrolling_sideways(page: Page, token: str, files: list[Path]) -> None:
    page.set_viewport_size(PHONE)
    sign_in(page, token)
    page.set_input_files("#files", files)
    expect(page.locator("#study canvas.thumb")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for locator in ("#picture", "#answer", "#study table"):
        found = page.locator(locator).bounding_box()
        assert found is not None
        assert found["x"] >= 0, locator
        assert found["x"] + found["width"] <= PHONE["width"], locator
