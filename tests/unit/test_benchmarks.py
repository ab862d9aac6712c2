"""The flags, the page of results and the bundle that benchmarks make of their figures and of a trained cine network."""

import io
import json
import zipfile
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file

from benchmarks import cluster, cmr_training, coverage, hostile_requests, results, sunnybrook
from benchmarks.cmr_bundle import in_halves, sealed
from benchmarks.cmr_results import flagged, unsure_below
from benchmarks.cmr_scores import Row
from benchmarks.leakage import chance_of
from echoplane import runtimes
from echoplane.bundle.export import to_onnx
from echoplane.tasks.cmr_segmentation import learning
from echoplane.training.checkpoint import State

SMALL = learning.Network(width=8)


def row(patient: str, dice: float, expected: float, flags: tuple[str, ...] = ()) -> Row:
    return Row(patient, dice, dice, 1.0, 2.0, 60.0, 61.0, expected, flags)


def test_training_cine_without_its_real_data_ends_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sunnybrook, "ROOT", tmp_path / "sunnybrook")
    monkeypatch.setattr("sys.argv", ["cmr_training", "--final"])
    monkeypatch.setattr(cmr_training, "phantom_slices", pytest.fail)
    with pytest.raises(SystemExit, match=r"the Sunnybrook cine MR set .* is not at .*Put it there"):
        cmr_training.main()


def test_a_tenth_of_the_good_answers_is_less_sure_than_the_threshold() -> None:
    rows = [row(f"p{k}", 0.95, 0.80 + k / 100) for k in range(11)]
    assert unsure_below([*rows, row("bad", 0.5, 0.1)]) == pytest.approx(0.81)


def test_a_patient_is_flagged_by_a_threshold_that_its_own_fold_took_no_part_in() -> None:
    sure = [row(f"s{k}", 0.95, 0.95) for k in range(10)]
    unsure = [row(f"u{k}", 0.95, 0.60) for k in range(10)]
    found = {r.patient: r.flags for r in flagged([sure, unsure])}
    assert all(found[f"u{k}"] == ("unsure",) for k in range(10))
    assert all(found[f"s{k}"] == () for k in range(10))


def test_sections_that_were_not_measured_here_stay_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "PAGE", tmp_path / "results.md")
    conditions = {"command": "make bench", "seed": 1, "date": "2026-01-01", "machine": "2 cores"}
    for folder, value in (("one", "1"), ("two", "2")):
        monkeypatch.setattr(results, "MEASURED", tmp_path / folder)
        results.record(folder, folder.title(), [{"figure": "f", "value": value}], conditions, "Text.")
        results.write_page([folder])
    page = results.PAGE.read_text()
    assert page.startswith(results.OPENING)
    assert page.index("## One") < page.index("| f | 1 |") < page.index("## Two") < page.index("| f | 2 |")
    results.write_page(["two"])
    assert results.PAGE.read_text() == page


def test_chance_is_one_in_twelve_where_every_clip_gets_one_answer() -> None:
    truth = np.repeat(np.arange(12), 20)
    assert chance_of(truth, np.full(240, 3)) == pytest.approx((1 / 12, 1 / 12))


def test_chance_of_views_told_apart_is_that_of_names_drawn_from_a_hat() -> None:
    """Fewer than 1 permutation in 40 has more than three fixed points: Poisson of mean 1."""
    truth = np.repeat(np.arange(12), 20)
    assert chance_of(truth, truth) == pytest.approx((0, 3 / 12))


def test_the_clusters_figures_count_what_failed_and_a_run_that_ended_early_has_no_page() -> None:
    measured = {
        "everything_s": 840,
        "images_built_and_loaded_s": 240,
        "install_to_first_answer_s": 27,
        "memory_of_all_pods_gib": 4.67,
        "requests while a serving pod is deleted": 300,
        "failed while a serving pod is deleted": 2,
        "connections refused while a serving pod is deleted": 1,
        "training steps made again after a lost worker": 7,
    }
    with pytest.raises(KeyError, match="lost head"):
        cluster.rows(measured)
    rows = cluster.rows(measured | {"training steps made again after a lost head": 0})
    assert {"figure": "from no cluster to the last test, minutes", "value": "14.0", "expected": "at most 25"} in rows
    failed = {
        "figure": "requests while a serving pod is deleted: failed, of; connections refused, and tried again",
        "value": "2, 300; 1",
        "expected": "0 failed",
    }
    assert failed in rows


def test_a_cine_bundle_keeps_kernels_in_16_bits_and_answers_as_torch_does_with_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = State(weights=learning.network(SMALL).state_dict())
    folder = sealed(state, SMALL, tmp_path / "bundle", card="Not trained.\n", data_digest="0" * 64, abstain_below=0.0)
    weights = load_file(folder / "weights.safetensors")
    assert {t.dtype for t in weights.values() if t.ndim > 1} == {torch.float16}
    kernel_bytes = sum(2 * t.numel() for t in weights.values() if t.ndim > 1)
    assert kernel_bytes < (folder / "model.onnx").stat().st_size < 1.3 * kernel_bytes
    runtime = runtimes.open(folder, runtimes.InferenceSettings(precision="f32")).runtime
    module = learning.network(SMALL).eval()
    module.load_state_dict(weights)
    picture = np.random.default_rng(1).integers(0, 256, (2, 64, 80), dtype=np.uint8)
    with torch.inference_mode():
        expected = module(torch.from_numpy(picture))[0].numpy()
    np.testing.assert_allclose(runtime.run(picture).output, expected, atol=1e-4)


def test_kernels_that_16_bits_do_not_hold_are_left_as_they_are() -> None:
    torch.manual_seed(0)
    model = to_onnx(learning.network(SMALL).eval(), np.zeros((1, 32, 32), np.uint8), norms_apart=True)
    kept = onnx.load_from_string(in_halves(model)).graph.initializer
    assert [each.data_type for each in kept if len(each.dims) > 1] == [onnx.TensorProto.FLOAT] * 15


def test_coverage_is_summed_by_package() -> None:
    def found(lines: int, covered: int) -> dict[str, dict[str, int]]:
        return {"summary": {"num_statements": lines, "covered_lines": covered}}

    files = {
        "echoplane/deid/key.py": found(10, 10),
        "echoplane/deid/text/find.py": found(30, 10),
        "echoplane/errors.py": found(60, 60),
    }
    assert list(coverage.by_package({"files": files})) == [
        ("echoplane", 60, 100.0),
        ("echoplane/deid", 40, 50.0),
        ("all", 100, 80.0),
    ]


def test_the_worst_file_of_several_counts_in_json_and_in_a_zip() -> None:
    def answered(*statuses: int) -> dict[str, list]:
        return {"files": [{"problem": {"status": status}} for status in statuses] + [{"answer": {}}]}

    def in_zip(body: dict) -> httpx.Response:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("answers.json", json.dumps(body))
        return httpx.Response(200, content=content.getvalue(), headers={"content-type": "application/zip"})

    for path, answer in (("/v1/dicom", in_zip), ("/v1/study", lambda body: httpx.Response(200, json=body))):
        for statuses, worst in (((400, 500, 422), 500), ((504, 400), 400), ((), 200)):
            response = answer(answered(*statuses))
            response.request = httpx.Request("POST", f"http://service{path}")
            assert hostile_requests._worst(response) == worst
