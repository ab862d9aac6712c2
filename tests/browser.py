"""A real Chromium for tests of the pages; without one they are skipped, and say so."""

import contextlib
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SWITCHES = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
DESK, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}

AXE = "axe-core@4.10.3"

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


def fetched_axe(folder: Path) -> str:
    """Returns the source of axe-core, which checks accessibility; fetched for the tests alone."""
    fetched = subprocess.run(["npm", "pack", AXE], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    if fetched.returncode:
        pytest.skip(f"npm cannot fetch {AXE} here")
    with tarfile.open(next(folder.glob("*.tgz"))) as package:
        source = package.extractfile("package/axe.min.js")
        assert source is not None
        return source.read().decode()


def faults(page: Page, axe: str) -> list[str]:
    """Returns what axe finds wrong with a page."""
    page.evaluate(axe)
    found = page.evaluate("async () => (await axe.run()).violations")
    return [f"{fault['id']}: {node['html'][:120]}" for fault in found for node in fault["nodes"]]
