"""The bundle: whatever was changed since it was sealed is refused, by name."""

import hashlib
import io
import json
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echoplane.bundle import read, seal
from echoplane.bundle.spec import FILES, Contents
from echoplane.errors import BundleError
from tests.tiny_bundle import DATA_DIGEST, SPLIT_ID, make_tiny_bundle
from tests.tiny_cine import make_tiny_cine_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tiny_bundle(tmp_path / "bundle")


def _restate(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Edit bundle.json as an attacker or an older program would have written it."""
    stated = json.loads((folder / "bundle.json").read_text())
    change(stated)
    (folder / "bundle.json").write_text(json.dumps(stated))


def test_a_bundle_reads_as_it_was_sealed(folder: Path) -> None:
    bundle = read(folder)
    assert bundle.id == hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()
    assert (bundle.spec.data_digest, bundle.spec.split_id) == (DATA_DIGEST, SPLIT_ID)
    assert bundle.thresholds.temperature == 1.5
    assert [label.name for label in bundle.spec.labels] == [label.name for label in bundle.task.labels()]
    assert bundle.golden.batch.shape == (1, *bundle.spec.input.shape)


def test_the_same_model_has_the_same_id_and_another_has_another(tmp_path: Path) -> None:
    first, again, other = (
        read(make_tiny_bundle(tmp_path / name, seed)) for name, seed in [("a", 0), ("b", 0), ("c", 1)]
    )
    assert first.id == again.id != other.id


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_in_any_file_refuses_the_bundle_and_names_the_file(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} has changed"):
        read(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_refuses_the_bundle_and_names_the_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=f"{name} is missing"):
        read(folder)


def test_a_file_changed_after_reading_is_refused_when_it_is_used(folder: Path) -> None:
    bundle = read(folder)
    (folder / "model.onnx").write_bytes(b"another model")
    with pytest.raises(BundleError, match=r"model\.onnx has changed"):
        bundle.content("model.onnx")


def test_a_link_out_of_the_folder_is_no_file_of_a_bundle(folder: Path) -> None:
    (folder / "card.md").rename(folder.parent / "card.md")
    (folder / "card.md").symlink_to(folder.parent / "card.md")
    with pytest.raises(BundleError, match=r"card\.md is missing"):
        read(folder)


def test_a_name_with_a_path_in_it_is_refused(folder: Path) -> None:
    _restate(folder, lambda stated: stated["files"].update({"../../secret": "0" * 64}))
    with pytest.raises(BundleError, match="lists"):
        read(folder)


@pytest.mark.parametrize(("schema", "advice"), [(0, "run `echoplane export` again"), (None, "again"), (3, "Update")])
def test_another_schema_is_refused_with_what_to_do(folder: Path, schema: int | None, advice: str) -> None:
    _restate(folder, lambda stated: stated.update(schema=schema))
    with pytest.raises(BundleError, match=advice):
        read(folder)


def test_labels_other_than_the_tasks_are_refused(folder: Path) -> None:
    _restate(folder, lambda stated: stated["labels"].reverse())
    with pytest.raises(BundleError, match="labels"):
        read(folder)


def test_a_field_that_the_schema_lacks_is_refused_by_name(folder: Path) -> None:
    _restate(folder, lambda stated: stated.update(hook="import os"))
    with pytest.raises(BundleError, match="hook"):
        read(folder)


def test_a_task_that_is_not_there_and_text_that_is_not_json_are_refused(folder: Path) -> None:
    _restate(folder, lambda stated: stated.update(task="echo-view-smell"))
    with pytest.raises(BundleError, match="echo-view-smell"):
        read(folder)
    (folder / "bundle.json").write_text("{")
    with pytest.raises(BundleError, match="not JSON"):
        read(folder)


def test_sealing_refuses_a_folder_with_a_file_missing_and_leaves_no_bundle(folder: Path) -> None:
    contents = Contents(
        **{k: v for k, v in read(folder).spec.model_dump(by_alias=False).items() if k in Contents.model_fields}
    )
    (folder / "bundle.json").unlink()
    (folder / "golden.npz").unlink()
    with pytest.raises(BundleError, match=r"golden\.npz"):
        seal(folder, contents)
    assert not (folder / "bundle.json").exists()


def test_a_bundle_tells_nothing_of_the_folder_it_lies_in(folder: Path) -> None:
    assert str(folder) not in repr(read(folder))


def test_s2_a_golden_file_that_would_inflate_to_gigabytes_is_refused_by_its_headers(folder: Path) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("batch", "output", "embedding"):
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(
                header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 14, 1 << 15)}
            )
            archive.writestr(f"{name}.npy", header.getvalue() + bytes(1 << 20))
    (folder / "golden.npz").write_bytes(content.getvalue())
    _restate(folder, lambda stated: stated["files"].update({"golden.npz": _sha256(folder / "golden.npz")}))
    tracemalloc.start()
    with pytest.raises(BundleError, match="over 256 MiB"):
        _ = read(folder).golden
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_s2_a_golden_file_of_objects_is_refused(folder: Path) -> None:
    np.savez(folder / "golden.npz", batch=np.array([None]), output=np.ones(1), embedding=np.ones(1))
    _restate(folder, lambda stated: stated["files"].update({"golden.npz": _sha256(folder / "golden.npz")}))
    with pytest.raises(BundleError, match=r"plain arrays|holds objects"):
        _ = read(folder).golden


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _as_schema_1(folder: Path, **changes: object) -> Path:
    """The bundle as echoplane 0.1.0 stated it."""

    def restate(stated: dict[str, Any]) -> None:
        stated.update({**stated.pop("thresholds"), "schema": 1, **changes})

    _restate(folder, restate)
    return folder


def test_a_bundle_of_schema_1_is_read_with_the_thresholds_of_its_task(tmp_path: Path) -> None:
    old = make_tiny_bundle(tmp_path / "b", temperature=1.5, abstain_below=0.25)
    new = read(old)
    bundle = read(_as_schema_1(old))
    assert bundle.thresholds == new.thresholds
    assert bundle.spec == new.spec
    assert bundle.id == hashlib.sha256((old / "bundle.json").read_bytes()).hexdigest()
    cine = read(_as_schema_1(make_tiny_cine_bundle(tmp_path / "c"), temperature=1.0))
    assert cine.thresholds.model_dump() == {"abstain_below": 0.5}


@pytest.mark.parametrize("changes", [{"temperature": 0}, {"abstain_below": 2}, {"abstain_below": None}, {"mood": 1}])
def test_thresholds_that_the_task_does_not_know_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    folder = make_tiny_bundle(tmp_path / "b")
    with pytest.raises(BundleError):
        read(_as_schema_1(folder, **changes))


def test_a_folder_that_is_no_bundle_is_named(tmp_path: Path) -> None:
    for folder, why in ((tmp_path / "modls", "modls does not exist"), (tmp_path, f"no bundle.json in {tmp_path}")):
        with pytest.raises(BundleError, match=why):
            read(folder)
