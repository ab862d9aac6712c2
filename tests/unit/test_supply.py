"""What ships: its licences, its known weaknesses, and the page on direct dependencies."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from infra import audit, licences
from infra.pins import CHECKOUT, normal, pinned

DEPENDENCIES = CHECKOUT / "docs" / "dependencies.md"


def test_every_licence_of_what_ships_is_permissive_or_explained() -> None:
    assert licences.problems({name for name, _ in pinned()}, licences.exceptions()) == []


@pytest.mark.parametrize(
    ("licence", "permissive"),
    [
        ("MIT", True),
        ("Apache-2.0 AND (MIT OR GPL-3.0-only)", True),
        ("MIT AND GPL-2.0-or-later", False),
        ("GNU General Public License v3 (GPLv3)", False),
        ("Mozilla Public License 2.0 (MPL 2.0)", True),
        ("LicenseRef-Proprietary", False),
        ("UNKNOWN", False),
        ("", False),
    ],
)
def test_a_licence_is_permissive_if_all_that_must_be_kept_is(licence: str, permissive: bool) -> None:
    assert licences.is_permissive(licence) == permissive


def test_a_package_of_unclear_or_gpl_licence_and_a_stale_exception_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    stated = {"good": "MIT", "gpl": "GPL-3.0-only", "silent": "", "codecs": "BSD-3-Clause", "excused": "MIT"}
    monkeypatch.setattr(licences, "licence_of", stated.__getitem__)
    monkeypatch.setattr(licences, "gpl_libraries", lambda name: ["libx264-d6.so.165"] if name == "codecs" else [])
    row = {"licence": "LGPL", "reason": "a reason"}
    found = licences.problems(set(stated), {"excused": row, "gone": row})
    assert [sentence.split(":")[0] for sentence in found] == ["codecs", "excused", "gpl", "silent", "gone"]


def test_an_exception_without_a_reason_ends_the_check(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("package,licence,reason\nnvidia-nvtx,LicenseRef,\n")
    with pytest.raises(SystemExit, match="no licence or reason for nvidia-nvtx"):
        licences.exceptions(tmp_path / "table.csv")


def entry(*events: dict[str, str], **changes: Any) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}]
    affected = {"package": {"ecosystem": "PyPI", "name": "PyDICOM"}, "ranges": ranges}
    return {"id": "TEST-1", "summary": "a reader", "affected": [affected | changes.pop("affected", {})]} | changes


PINS = {("pydicom", "3.0.2"): ["serving"]}
START = {"introduced": "0"}


@pytest.mark.parametrize(
    ("stated", "affected"),
    [
        (entry(START), True),
        (entry(START, {"fixed": "3.0.3"}), True),
        (entry(START, {"fixed": "3.0.2"}), False),
        (entry(START, {"last_affected": "3.0.2"}), True),
        (entry(START, {"last_affected": "3.0.1"}), False),
        (entry({"introduced": "3.1"}), False),
        (entry({"introduced": "3.0"}, {"fixed": "3.0.1"}, {"introduced": "3.0.2"}), True),
        (entry({"introduced": "4"}, affected={"versions": ["3.0.2"]}), True),
        (entry({"introduced": "no version"}), True),
        (entry(START, withdrawn="2026-01-01T00:00:00Z"), False),
        (entry(START, affected={"package": {"ecosystem": "npm", "name": "pydicom"}}), False),
        (entry(START, affected={"package": {"ecosystem": "PyPI", "name": "pydicom-data"}}), False),
    ],
)
def test_a_pinned_version_is_found_in_the_ranges_of_an_entry(stated: dict[str, Any], affected: bool) -> None:
    assert bool(list(audit.findings(stated, PINS))) == affected


def test_an_audit_reads_a_zip_a_folder_or_a_file_and_fails_on_a_finding(tmp_path: Path) -> None:
    numpy = next(version for name, version in pinned() if name == "numpy")
    affected = {"package": {"ecosystem": "PyPI", "name": "numpy"}, "versions": [numpy]}
    content = json.dumps(entry(START, id="TEST-2", affected=affected))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "one.json").write_text(content)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("one.json", content)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.json").write_text("{}")
    statuses = {}
    for name in ("folder", "folder/one.json", "all.zip", "empty", "broken.json"):
        command = [sys.executable, "-m", "infra.audit", str(tmp_path / name)]
        run = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
        statuses[name] = run.returncode
        assert ("TEST-2: numpy" in run.stdout) == (run.returncode == 1)
    assert statuses == {"folder": 1, "folder/one.json": 1, "all.zip": 1, "empty": 2, "broken.json": 2}


def test_every_direct_dependency_is_on_its_page() -> None:
    asked = set()
    for path in (CHECKOUT / "requirements").glob("*.in"):
        for line in path.read_text().splitlines():
            if found := re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line):
                asked.add(normal(found[0]))
    described = {normal(name) for name in re.findall(r"^\| `([^`]+)`", DEPENDENCIES.read_text(), re.MULTILINE)}
    assert described == asked
