"""Pages that are made from the code are as the code is."""

import ast
import builtins
import importlib.util
import json
import re
from pathlib import Path

import pytest

from echoplane.tasks.label_shares import check_shares, read_shares

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


def test_e11_the_readme_names_download_and_disk_beside_the_first_command():
    first_screen = (DOCS.parent / "README.md").read_text()[:1500]
    assert re.search(r"make demo", first_screen)
    assert re.search(r"[\d.]+ GB of download, [\d.]+ GB of disk", first_screen)


def test_every_defence_names_a_test_that_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (DOCS.parent / "SECURITY.md").read_text())
    assert len(named) > 20
    absent = [f"{file}::{name}" for file, name in named if f"def {name}(" not in (DOCS.parent / file).read_text()]
    assert absent == []


def _defined(file: Path) -> set[str]:
    """Returns the functions, classes and methods (`Class.method`) of a file, and the names that it binds."""
    names = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{one.name}" for one in node.body if hasattr(one, "name")}
    return names


def test_every_function_on_the_five_paths_exists():
    page = (DOCS / "paths.md").read_text()
    named = re.findall(r"`([\w/]+\.py)::([\w.]+)`", page)
    assert len(named) > 50
    root = DOCS.parent
    absent = [f"{file}::{name}" for file, name in named if name not in _defined(root / file)]
    assert absent == []
    steps = [line for line in page.splitlines() if re.match(r"\d+\. ", line)]
    assert all(re.match(r"\d+\. `[\w/]+\.py::[\w.]+`: ", line) for line in steps)


def test_the_python_examples_of_the_client_import_all_that_they_use():
    examples = re.findall(r"```python\n(.*?)```", (DOCS / "client.md").read_text(), re.DOTALL)
    assert len(examples) == 2
    for text in examples:
        names = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)]
        given = {node.id for node in names if isinstance(node.ctx, ast.Store)} | set(dir(builtins))
        given |= {alias.name for node in ast.walk(ast.parse(text)) for alias in getattr(node, "names", [])}
        given |= {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.AsyncFunctionDef)}
        assert {node.id for node in names} - given == set()


def test_the_example_of_label_shares_names_every_label():
    (text,) = re.findall(r"```json\n(.*?)```", (DOCS / "views.md").read_text(), re.DOTALL)
    bundle = json.loads((DOCS.parent / "models" / "echo-view-image" / "bundle.json").read_text())
    check_shares(read_shares(text), [label["name"] for label in bundle["labels"]])
