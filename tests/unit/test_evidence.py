"""The evidence pack of a release: complete, the same later, and a change is found without the registry."""

import csv
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from echoplane.adapters.registry import CHAMPION
from echoplane.adapters.why import release_of
from echoplane.errors import EvidenceError
from echoplane.evidence import Release, make_pack, verify_pack
from echoplane.evidence.pack import MANIFEST, SIGNATURE
from echoplane.signing import TrustedKeys, new_signing_key, read_signing_key, read_trusted_keys, revoke, trust
from tests.registry_double import RegistryDouble
from tests.tiny_bundle import TASK, make_tiny_bundle
from tests.unit.test_approval import House

CHECKOUT = Path(__file__).resolve().parents[2]
FIGURE = {"value": 0.9, "low": 0.8, "high": 0.95}
EVALUATION = {
    "patients": 40,
    "clips": 480,
    "headline": ["accuracy"],
    "figures": {"accuracy": FIGURE},
    "subgroups": {"site": {"=cmd()": {"patients": 20, "clips": 240, "figures": {"accuracy": FIGURE}}}},
    "latency_ms": {"p95": 80.0},
}


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    key, trusted = tmp_path / "signing.key", tmp_path / "trusted-keys.json"
    trust(trusted, new_signing_key(key).public, "mlops", ())
    monkeypatch.setenv("ECHOPLANE_SIGNING_KEY_FILE", str(key))
    monkeypatch.setenv("ECHOPLANE_TRUSTED_KEYS", str(trusted))
    monkeypatch.setenv("ECHOPLANE_AUDIT_LOG", str(tmp_path / "audit.jsonl"))
    return trusted


@pytest.fixture
def release(tmp_path: Path, trusted: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    monkeypatch.setattr("tests.unit.test_approval.FIGURES", EVALUATION)
    registry = RegistryDouble({"1": make_tiny_bundle(tmp_path / "1")})
    house = House(registry, tmp_path / "audit.jsonl")
    registry.add("1")
    registry.artifacts["run1/evaluation/evaluation.json"] = EVALUATION
    monkeypatch.setattr(registry, "add", registry.version)
    house.promote("1")
    assert house.alias(CHAMPION) == "1"
    return release_of(registry, TASK)  # type: ignore[arg-type]


@pytest.fixture
def pack(tmp_path: Path, release: Release) -> Path:
    path = tmp_path / "release.zip"
    make_pack(path, release, {"card.md": b"# card", "attached/sbom.json": b"{}"}, read_signing_key())
    return path


def test_a_pack_holds_everything_and_verifies(pack: Path, trusted: Path) -> None:
    manifest = verify_pack(pack, read_trusted_keys(str(trusted)))
    assert manifest.version == "1"
    assert {"why.html", "evaluation.json", "decision.json", "history.jsonl", "card.md", "attached/sbom.json"} <= set(
        manifest.files
    )
    with zipfile.ZipFile(pack) as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("subgroups.csv").decode())))
        page = archive.read("why.html").decode()
    assert rows[0] == {
        "column": "site",
        "group": "'=cmd()",
        "patients": "20",
        "samples": "240",
        "figure": "accuracy",
        "value": "0.9000",
        "low": "0.8000",
        "high": "0.9500",
    }
    assert "0.900 (95% interval 0.800 to 0.950)" in page
    assert "verified: promotion by pipeline" in page


def rewritten(pack: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    with zipfile.ZipFile(pack) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    with zipfile.ZipFile(pack, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def _edit(files: dict[str, bytes]) -> None:
    files["card.md"] += b" better"


def _add(files: dict[str, bytes]) -> None:
    files["more.txt"] = b"x"


def _remove(files: dict[str, bytes]) -> None:
    del files["evaluation.json"]


def _rehash(files: dict[str, bytes]) -> None:
    import hashlib

    _edit(files)
    stated = json.loads(files[MANIFEST])
    stated["files"]["card.md"] = hashlib.sha256(files["card.md"]).hexdigest()
    files[MANIFEST] = json.dumps(stated).encode()


def _unsign(files: dict[str, bytes]) -> None:
    del files[SIGNATURE]


def _empty(files: dict[str, bytes]) -> None:
    files.clear()


@pytest.mark.parametrize("change", [_edit, _add, _remove, _rehash, _unsign, _empty])
def test_a_changed_pack_is_found(pack: Path, trusted: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    rewritten(pack, change)
    with pytest.raises(EvidenceError):
        verify_pack(pack, read_trusted_keys(str(trusted)))


def test_a_better_evaluation_does_not_fit_the_signed_promotion(pack: Path, trusted: Path, release: Release) -> None:
    better = release.model_copy(update={"evaluation": EVALUATION | {"patients": 4000}})
    make_pack(pack, better, {}, read_signing_key())
    with pytest.raises(EvidenceError, match="not those of its signed promotion"):
        verify_pack(pack, read_trusted_keys(str(trusted)))


def test_a_pack_of_an_unknown_or_revoked_key_is_refused(pack: Path, trusted: Path) -> None:
    with pytest.raises(EvidenceError, match="not trusted here"):
        verify_pack(pack, TrustedKeys(schema=1))
    revoke(trusted, read_trusted_keys(str(trusted)).keys[0].id, "stolen")
    with pytest.raises(EvidenceError, match="revoked"):
        verify_pack(pack, read_trusted_keys(str(trusted)))


def test_an_unsigned_pack_is_accepted_only_if_that_is_said(tmp_path: Path, release: Release, trusted: Path) -> None:
    make_pack(tmp_path / "plain.zip", release, {}, None)
    assert verify_pack(tmp_path / "plain.zip", TrustedKeys(schema=1), allow_unsigned=True).version == "1"
    with pytest.raises(EvidenceError, match="not signed"):
        verify_pack(tmp_path / "plain.zip", TrustedKeys(schema=1))


def test_a_file_that_is_no_pack_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.zip").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(EvidenceError, match="cannot be read"):
        verify_pack(tmp_path / "none.zip", TrustedKeys(schema=1))


def test_every_requirement_names_a_test_that_exists() -> None:
    table = list(csv.DictReader((CHECKOUT / "echoplane" / "evidence" / "requirements.csv").read_text().splitlines()))
    assert len(table) >= 10
    for row in table:
        file, _, name = row["test"].partition("::")
        assert f"def {name}(" in (CHECKOUT / file).read_text(), row["test"]


def test_the_pages_text_is_escaped(release: Release) -> None:
    record = release.history[0].model_copy(update={"by": "<script>alert(1)</script>"})
    page = release.model_copy(update={"history": (record,)}).page()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
