"""docs/results.md from `build/bench/*.json`: every figure with its command, seed, date and machine kind."""

import json
import re
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
MEASURED = CHECKOUT / "build" / "bench"
PAGE = CHECKOUT / "docs" / "results.md"

OPENING = """# Results

Every figure below was measured by the command beside it. `make bench` measures again all that needs neither hours of
training (`make papers`) nor a cluster (`make test-cluster`) nor real pictures, and rewrites this page.
Phantom patients are synthetic: these figures say that the platform works, not how well a model reads real hearts.
"""


def record(name: str, title: str, figures: list[dict[str, Any]], conditions: dict[str, Any], text: str) -> None:
    """Keep one benchmark's figures (`figure`, `value`, optional `expected`), with its conditions, as JSON."""
    MEASURED.mkdir(parents=True, exist_ok=True)
    result = {"title": title, "text": text, "figures": figures, "conditions": conditions}
    (MEASURED / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


def write_page(names: list[str]) -> None:
    """The page with the sections of `names` as measured last; what was not measured in this checkout stays as it is."""
    sections = _sections(PAGE.read_text()) if PAGE.exists() else {}
    for name in names:
        result = json.loads((MEASURED / f"{name}.json").read_text())
        sections[result["title"]] = _section(result)
    PAGE.write_text("\n".join([OPENING, *sections.values()]))


def _sections(page: str) -> dict[str, str]:
    """The sections of a page by title, in its order."""
    parts = re.split(r"^(?=## )", page, flags=re.MULTILINE)[1:]
    return {part.partition("\n")[0].removeprefix("## "): part.rstrip("\n") + "\n" for part in parts}


def _section(result: dict[str, Any]) -> str:
    conditions = result["conditions"]
    lines = [f"## {result['title']}", "", result["text"], "", "| figure | measured | expected |", "|---|---|---|"]
    lines += [f"| {f['figure']} | {f['value']} | {f.get('expected', '')} |" for f in result["figures"]]
    seed = "" if conditions["seed"] is None else f", seed {conditions['seed']}"
    lines += ["", f"`{conditions['command']}`{seed}, {conditions['date']}, {conditions['machine']}.", ""]
    return "\n".join(lines)
