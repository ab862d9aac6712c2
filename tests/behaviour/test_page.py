"""The page as a cardiologist meets it, in a real browser on a running service."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from echoplane.tokens import change_tokens, new_token
from tests import dicom_files as dicom
from tests.browser import DESK, PHONE, chromium, needs_chromium
from tests.serving_process import Running, serve
from tests.tiny_bundle import make_tiny_bundle

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
    settings = {
        "ECHOPLANE_BUNDLES": str(make_tiny_bundle(folder / "tiny", abstain_below=0.5)),
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
    expect(rows.nth(2)).to_contain_text("No answer")
    expect(rows.locator("canvas.thumb")).to_have_count(2)
    page.get_by_role("button", name="letter.txt").click()
    expect(page.locator("#answer .problem")).to_contain_text("This is no file that is read")
    page.get_by_role("button", name="other.dcm").click()
    expect(page.locator("#frame-number")).to_have_text("1 of 12")


def test_a_phone_shows_all_of_it_without_scrolling_sideways(page: Page, token: str, files: list[Path]) -> None:
    page.set_viewport_size(PHONE)
    sign_in(page, token)
    page.set_input_files("#files", files)
    expect(page.locator("#study canvas.thumb")).to_have_count(2)
    box = page.locator("#main").bounding_box()
    assert box is not None
    assert box["width"] <= PHONE["width"]
    for locator in ("#picture", "#answer", "#study table"):
        found = page.locator(locator).bounding_box()
        assert found is not None
        assert found["x"] >= 0, locator
        assert found["x"] + found["width"] <= PHONE["width"], locator
