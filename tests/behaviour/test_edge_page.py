"""The page of the edge fleet in a browser: readable in both themes, by keyboard, and without a network."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from echoplane.edge.fleet import Received, Report, Seen, TaskReport
from echoplane.edge.fleet_page import fleet_page
from echoplane.edge.fleet_view import Repository, fleet_of
from echoplane.edge.policy import Policy
from echoplane.edge.rollout import ALL, Candidate, Plan, TaskPlan
from tests.browser import PHONE, chromium, faults, fetched_axe, needs_chromium

pytestmark = needs_chromium
TASK = "echo-view-video"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NEW, OLD = "a" * 64, "b" * 64


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """The page of ten devices, one of which refused the bundle and says so in HTML."""
    candidate = Candidate(bundle=NEW, ring="all", cut=ALL, since=NOW)
    plan = Plan(channel="stable", tasks={TASK: TaskPlan(stable=OLD, candidate=candidate)})
    states = {f"box-{number}": "refused" if number == 3 else "serving" for number in range(10)}
    received = Received([Seen(report(device, state), NOW) for device, state in states.items()], ["x.json"])
    fleet = fleet_of(Repository({"stable": plan}, NOW + timedelta(days=9)), received, {}, Policy(), NOW)
    path = tmp_path / "fleet.html"
    path.write_text(fleet_page(fleet))
    opened = browser.new_page()
    opened.goto(path.as_uri())
    yield opened
    opened.close()


def report(device: str, state: str) -> Report:
    task = TaskReport(state=state, bundle=NEW, wanted=NEW, attempt=1, reason="<img src=x onerror=document.title=1>")
    return Report(device=device, channel="stable", time=NOW, version="1", tasks={TASK: task}, free_mib=5000)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_fault_in_either_theme(
    page: Page, tmp_path_factory: pytest.TempPathFactory, theme: Literal["light", "dark"]
) -> None:
    page.emulate_media(color_scheme=theme)
    axe = fetched_axe(tmp_path_factory.mktemp("axe"))
    assert faults(page, axe) == []
    page.set_viewport_size(PHONE)
    assert faults(page, axe) == []


def test_tables_are_reached_by_keyboard_and_only_they_scroll_on_a_phone(page: Page) -> None:
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    devices = page.get_by_role("region", name="Devices", exact=True)
    expect(devices).to_be_focused()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.activeElement.scrollLeft > 0")


def test_what_a_device_says_is_text_and_the_one_in_trouble_comes_first(page: Page) -> None:
    assert page.locator("img, script").count() == 0
    expect(page).to_have_title("echoplane edge fleet")
    first = page.get_by_role("region", name="Devices", exact=True).locator("tbody tr").first
    expect(first).to_contain_text("box-3")
    expect(first).to_contain_text("onerror=document.title=1")
