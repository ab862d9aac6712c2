"""Pages that are made from the code are as the code is."""

import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"


def _generator():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "reference" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["commands.md", "settings.md", "metrics.md", "alerts.md"])
def test_a_reference_page_is_what_the_code_says(page):
    assert (DOCS / "reference" / page).read_text() == _generator().pages()[page], "run `make docs`"


def test_every_link_of_the_pages_leads_somewhere():
    pages = [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#]+)", page.read_text())]
    local = [(page, link) for page, link in links if "://" not in link and not link.startswith("mailto:")]
    assert len(local) > 10
    assert [(page.name, link) for page, link in local if not (page.parent / link).exists()] == []
