"""Sign-in on the page with an OpenID Connect provider, in a real browser, and every way in which it can fail."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import dicom_files as dicom
from tests.browser import DESK, chromium, faults, fetched_axe, needs_chromium
from tests.oidc_provider import CLIENT, Behaviour, Provider
from tests.serving_process import Running, serve
from tests.tiny_bundle import make_tiny_bundle

pytestmark = needs_chromium
CLIP = {"name": "clip.dcm", "mimeType": "application/dicom", "buffer": dicom.jpeg_clip()}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    provider = Provider()
    yield provider
    provider.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("sign-in")
    settings = {
        "ECHOPLANE_BUNDLES": str(make_tiny_bundle(folder / "tiny")),
        "ECHOPLANE_OIDC_ISSUER": provider.url,
        "ECHOPLANE_OIDC_AUDIENCE": "echoplane",
        "ECHOPLANE_OIDC_CLIENT_ID": CLIENT,
    }
    with serve(folder, settings) as running:
        provider.redirect_uri = f"{running.url}/"
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, service: Running, provider: Provider) -> Iterator[Page]:
    provider.does = Behaviour()
    provider.grants.clear()
    with browser.new_context(viewport=DESK, base_url=service.url, reduced_motion="reduce") as context:
        page, errors = context.new_page(), []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if "Policy" in message.text else None)
        yield page
        assert errors == []


def sign_in(page: Page, path: str = "/") -> None:
    page.goto(path)
    page.get_by_role("button", name="Sign in with your organisation").click()


def expect_refused(page: Page, text: str) -> None:
    expect(page.get_by_role("alert").filter(has_text=text)).to_be_visible()
    expect(page.get_by_role("button", name="Sign in with your organisation")).to_be_visible()
    assert page.evaluate("sessionStorage.getItem('echoplane-token')") is None


def test_a_person_signs_in_is_answered_and_signs_out(page: Page, service: Running) -> None:
    sign_in(page)
    expect(page.get_by_role("button", name="Choose files")).to_be_visible()
    assert page.url == f"{service.url}/", "no code stays in the address"
    page.set_input_files("#files", CLIP)
    expect(page.locator(".bars").first).to_be_visible()
    kept = page.evaluate("Object.keys(sessionStorage)")
    assert kept == ["echoplane-token"], "neither verifier nor refresh token is kept"
    page.reload()
    expect(page.get_by_role("button", name="Choose files")).to_be_visible()
    with page.expect_request(lambda request: "/logout" in request.url):
        page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in with your organisation")).to_be_visible()
    expect(page.get_by_label("Access token")).to_be_hidden()


def test_axe_finds_no_fault_in_the_sign_in(page: Page, tmp_path: Path) -> None:
    page.goto("/?code=stolen&state=forged")
    expect_refused(page, "not begun in this tab")
    assert faults(page, fetched_axe(tmp_path)) == []


def test_a_sign_in_on_the_dashboard_returns_there(page: Page, service: Running) -> None:
    sign_in(page, "/dashboard")
    expect(page.locator(".panel").first).to_be_visible()
    assert page.url == f"{service.url}/dashboard"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Behaviour(state="forged"), "not begun in this tab"),
        (Behaviour(error="access_denied"), "refused the sign-in (access_denied)"),
        (Behaviour(error="<img src=x>"), "refused the sign-in (no reason given)"),
        (Behaviour(id_claims={"nonce": "another"}), "not for this sign-in"),
        (Behaviour(id_claims={"aud": "another-client"}), "not for this sign-in"),
        (Behaviour(id_claims={"exp": 1}), "not for this sign-in"),
        (Behaviour(claims={"exp": int(time.time()) - 3600}), "did not accept the sign-in"),
        (Behaviour(claims={"aud": "another-service"}), "did not accept the sign-in"),
    ],
    ids=["state", "denied", "markup", "nonce", "client", "id-token-expired", "expired", "audience"],
)
def test_a_sign_in_that_is_wrong_is_refused_with_the_reason(
    page: Page, provider: Provider, wrong: Behaviour, said: str
) -> None:
    provider.does = wrong
    sign_in(page)
    expect_refused(page, said)
    provider.does = Behaviour()
    page.get_by_role("button", name="Sign in with your organisation").click()
    expect(page.get_by_role("button", name="Choose files")).to_be_visible()


def test_a_code_that_somebody_else_asked_for_is_not_used(page: Page, provider: Provider) -> None:
    page.goto("/?code=stolen&state=forged")
    expect_refused(page, "not begun in this tab")
    assert provider.grants == []


def test_a_person_without_a_role_is_told_so_and_may_sign_in_as_another(page: Page, provider: Provider) -> None:
    provider.does = Behaviour(claims={"roles": []})
    sign_in(page)
    expect(page.get_by_role("alert").filter(has_text="do not allow this")).to_be_visible()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_a_token_that_ends_soon_is_renewed_before_it_is_used(page: Page, provider: Provider) -> None:
    provider.does = Behaviour(valid_s=2)
    sign_in(page)
    expect(page.get_by_role("button", name="Choose files")).to_be_visible()
    first = page.evaluate("sessionStorage.getItem('echoplane-token')")
    page.wait_for_timeout(1200)
    page.set_input_files("#files", CLIP)
    expect(page.locator(".bars").first).to_be_visible()
    assert provider.grants[:2] == ["authorization_code", "refresh_token"]
    assert page.evaluate("sessionStorage.getItem('echoplane-token')") != first
