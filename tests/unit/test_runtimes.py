"""Runtimes: the same answer as numpy's, from any thread, at a precision that is told; a wrong model is refused."""

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from pydantic import ValidationError
from safetensors.numpy import load_file

from echoplane import runtimes
from echoplane.bundle import Bundle, Golden, read, seal, write_golden
from echoplane.bundle.spec import Contents
from echoplane.errors import BundleError, ConfigError, UnusableStudy
from echoplane.runtimes import InferenceSettings, Runtime, answer, openvino, recorded_settings
from echoplane.study.study import Study
from echoplane.tasks.classify import softmax
from tests.tiny_bundle import forward, make_tiny_bundle

RUNTIMES = ("openvino", "onnxruntime")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return read(make_tiny_bundle(tmp_path_factory.mktemp("bundle")))


def load(bundle: Bundle, **settings: object) -> Runtime:
    return runtimes.open(bundle, InferenceSettings(**settings)).runtime


def _clips(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 16, 64, 64), dtype=np.uint8)


def _reseal(folder: Path, bundle: Bundle) -> Bundle:
    """Sealed again after its files were changed: intact by its digests, and wrong."""
    stated = bundle.spec.model_dump(by_alias=False)
    seal(folder, Contents(**{name: stated[name] for name in Contents.model_fields if name in stated}))
    return read(folder)


@pytest.mark.parametrize("name", RUNTIMES)
def test_outputs_equal_the_same_model_in_numpy(bundle: Bundle, name: str) -> None:
    runtime = load(bundle, precision="f32", runtime=name)
    outputs = runtime.run(_clips(3))
    output, embedding = forward(_clips(3), load_file(bundle.folder / "weights.safetensors"))
    assert np.abs(outputs.output - output).max() < 1e-4
    assert np.abs(outputs.embedding - embedding).max() < 1e-5
    assert runtime.settings == InferenceSettings(runtime=name, precision="f32")


@pytest.mark.parametrize("rows", [1, 3, 4, 7])
def test_rows_that_are_divided_among_threads_come_back_in_order(bundle: Bundle, rows: int) -> None:
    runtime, clips = load(bundle, precision="f32", threads=2), _clips(rows)
    output, embedding = forward(clips, load_file(bundle.folder / "weights.safetensors"))
    for _ in range(2):  # the second time without compiling
        outputs = runtime.run(clips)
        assert np.abs(outputs.output - output).max() < 1e-4
        assert np.abs(outputs.embedding - embedding).max() < 1e-5
    kept = outputs.output.copy()
    runtime.run(255 - clips)
    assert np.array_equal(outputs.output, kept)  # the next run writes elsewhere


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_golden_bundle_passes_and_one_with_another_golden_output_is_refused(tmp_path: Path, name: str) -> None:
    bundle = read(make_tiny_bundle(tmp_path / "b"))
    load(bundle, precision="f32", runtime=name)
    golden = bundle.golden
    for shift in (0.05, np.inf):
        write_golden(bundle.folder, Golden(golden.batch, golden.output + shift, golden.embedding))
        wrong = _reseal(bundle.folder, bundle)
        with pytest.raises(BundleError, match="golden output"):
            load(wrong, precision="f32", runtime=name)


def test_a_bundle_whose_example_is_prepared_otherwise_here_is_refused(tmp_path: Path) -> None:
    bundle = read(make_tiny_bundle(tmp_path / "b"))
    golden = bundle.golden
    weights = load_file(bundle.folder / "weights.safetensors")
    darker = golden.batch // 2
    write_golden(bundle.folder, Golden(darker, *forward(darker, weights)))
    wrong = _reseal(bundle.folder, bundle)
    with pytest.raises(BundleError, match="grey levels"):
        load(wrong, precision="f32")


def test_a_model_that_is_not_onnx_is_refused(tmp_path: Path) -> None:
    bundle = read(make_tiny_bundle(tmp_path / "b"))
    (bundle.folder / "model.onnx").write_bytes(b"not a model")
    wrong = _reseal(bundle.folder, bundle)
    for name in RUNTIMES:
        with pytest.raises(BundleError, match="does not load"):
            load(wrong, runtime=name)


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_model_with_weights_in_another_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bundle = read(make_tiny_bundle(tmp_path / "b"))
    path = bundle.folder / "model.onnx"
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    wrong = _reseal(bundle.folder, bundle)
    monkeypatch.chdir(bundle.folder)
    with pytest.raises(BundleError, match="another file"):
        load(wrong, runtime=name)


@pytest.mark.parametrize("wish", [{"runtime": "abacus"}, {"device": "tpu"}, {"precision": "f64"}, {"threads": 0}])
def test_settings_that_no_runtime_has_are_refused(wish: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wish))):
        InferenceSettings(**wish)


def test_a_precision_that_a_runtime_lacks_is_named(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="onnxruntime runs in f32"):
        load(bundle, runtime="onnxruntime", precision="bf16")


def test_a_model_that_fails_its_golden_check_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, closed = read(make_tiny_bundle(tmp_path / "b")), []
    monkeypatch.setattr(openvino.OpenVino, "close", lambda self: closed.append(self))
    golden = bundle.golden
    write_golden(bundle.folder, Golden(golden.batch, golden.output + 1, golden.embedding))
    with pytest.raises(BundleError, match="golden output"):
        load(_reseal(bundle.folder, bundle), precision="f32")
    assert len(closed) == 1


def test_settings_are_those_that_the_evaluation_recorded() -> None:
    tags = {"runtime": "onnxruntime", "precision": "f32", "threads": "3", "split_id": "x"}
    assert recorded_settings(tags) == InferenceSettings(runtime="onnxruntime", precision="f32", threads=3)
    assert recorded_settings(tags).overridden(runtime="openvino", precision="", threads=0).threads == 3
    for missing in ("runtime", "precision", "threads"):
        with pytest.raises(BundleError, match="evaluate again"):
            recorded_settings({name: value for name, value in tags.items() if name != missing})
    with pytest.raises(BundleError, match="evaluate again"):
        recorded_settings(tags | {"precision": "f8"})


def test_nobody_loads_a_model_without_the_golden_check() -> None:
    product = [p for room in ("echoplane", "serving", "benchmarks", "demo") for p in (ROOT / room).rglob("*.py")]
    outside = [p for p in product if p.parent != ROOT / "echoplane" / "runtimes"]
    loads = re.compile(r"runtimes\.(?:openvino|onnxruntime|runtime)\b|check_golden")
    assert len(outside) > 100
    assert [str(p) for p in outside if loads.search(p.read_text())] == []


@pytest.mark.parametrize("name", RUNTIMES)
def test_many_threads_get_what_one_gets_to_the_last_bit(bundle: Bundle, name: str) -> None:
    runtime, clips = load(bundle, precision="f32", runtime=name), _clips(32)
    alone = [runtime.run(clip[None]).output for clip in clips]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda clip: runtime.run(clip[None]).output, clips))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_closed_runtime_says_so(bundle: Bundle, name: str) -> None:
    runtime = load(bundle, runtime=name)
    runtime.close()
    with pytest.raises(BundleError, match="closed"):
        runtime.run(_clips(1))


def test_auto_is_a_precision_that_passes_the_golden_check(bundle: Bundle) -> None:
    assert load(bundle, precision="auto").settings.precision in ("f32", "bf16")


def test_an_answer_is_what_preprocess_model_and_temperature_give(bundle: Bundle) -> None:
    study = bundle.task.example(5)
    given = answer(study, runtimes.open(bundle, InferenceSettings(precision="f32")))
    batch = bundle.task.preprocess(study, bundle.preprocessing).batch
    output, embedding = forward(batch, load_file(bundle.folder / "weights.safetensors"))
    expected = softmax(output[0].astype(float) / bundle.thresholds.temperature)
    assert list(given.result.probabilities.values()) == pytest.approx(expected, abs=1e-5)
    assert given.embedding == pytest.approx(embedding[0], abs=1e-5)
    assert set(given.timings_ms) == {"preprocess", "inference", "interpret"}
    assert all(ms >= 0 for ms in given.timings_ms.values())


def test_warnings_of_preparing_reach_the_answer_and_unusable_studies_do_not_become_one(bundle: Bundle) -> None:
    from dataclasses import replace

    clip, model = bundle.task.example(0).only, runtimes.open(bundle, InferenceSettings())
    given = answer(Study((replace(clip, frame_time_ms=None),)), model)
    assert any("no frame time" in warning for warning in given.result.warnings)
    with pytest.raises(UnusableStudy):
        answer(Study((replace(clip, frame_count=1),)), model)


def test_answering_needs_none_of_what_serving_does_not_have() -> None:
    import subprocess

    absent = ("torch", "kfp", "mlflow", "ray", "pandas", "matplotlib", "pyarrow", "scipy", "onnx", "safetensors")
    code = "import sys; [sys.modules.__setitem__(name, None) for name in sys.argv[1:]]\n"
    code += "import echoplane.bundle, echoplane.runtimes.openvino, echoplane.runtimes.onnxruntime, echoplane.html"
    done = subprocess.run([sys.executable, "-c", code, *absent], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
