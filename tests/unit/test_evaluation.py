"""Evaluation: patients are resampled, not clips; only unseen patients are tested; the page escapes what files say."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics

from echoplane import runtimes
from echoplane.bundle import read
from echoplane.dataset.catalogue import read_catalogue
from echoplane.errors import ConfigError, StageError
from echoplane.evaluation.evaluation import check_test_set
from echoplane.evaluation.intervals import bootstrap, bootstrap_difference, resampled
from echoplane.evaluation.report import write_report
from echoplane.evaluation.scores import as_rows, read_scores
from echoplane.runtimes import InferenceSettings, answer
from echoplane.stages import evaluate
from echoplane.stages.stage import Manifest
from echoplane.study.dicom import read_dicom
from echoplane.tasks import Rows, by_name
from echoplane.tasks.classify import confusion
from tests.tiny_bundle import DATA_DIGEST, TASK, make_tiny_bundle
from tests.tiny_evaluation import NAMES, draw_scores, finish, make_chain


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return make_chain(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def evaluated(chain: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return evaluate.run(evaluate.Config(root=str(tmp_path_factory.mktemp("run")), resamples=200, **chain))


def _accuracy(rows: Rows) -> dict[str, float]:
    return {"accuracy": float((rows["probabilities"].argmax(axis=1) == rows["truth"]).mean())}


def _width(rows: Rows) -> float:
    low, high = bootstrap(rows, _accuracy, resamples=500)["accuracy"]
    return high - low


def test_a_draw_takes_whole_patients() -> None:
    patient_N = np.array(["b", "a", "b", "c", "a", "b"])
    for drawn in resampled(patient_N, 50, seed=0):
        counts = {p: int((patient_N[drawn] == p).sum()) for p in "abc"}
        assert counts["a"] % 2 == 0
        assert counts["b"] % 3 == 0
        assert counts["a"] // 2 + counts["b"] // 3 + counts["c"] == 3


def test_errors_that_come_by_patient_widen_the_interval() -> None:
    scattered, clustered = (draw_scores(accuracy=0.8, whole_patients=whole) for whole in (False, True))
    assert _width(clustered) > 2 * _width(scattered)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(100):
        rows = draw_scores(patients=40, accuracy=0.8, seed=seed, whole_patients=True, views=3)
        low, high = bootstrap(rows, _accuracy, resamples=200, seed=seed)["accuracy"]
        hits += low <= 0.8 <= high
    assert 85 <= hits <= 99


def test_a_difference_is_paired_so_a_model_differs_from_itself_by_nothing() -> None:
    rows = draw_scores(accuracy=0.7)
    assert bootstrap_difference(rows, rows, _accuracy, resamples=100)["accuracy"] == (0.0, 0.0)


def test_the_same_seed_gives_the_same_interval() -> None:
    rows = draw_scores()
    first, again, other = (bootstrap(rows, _accuracy, resamples=50, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


def test_macro_figures_equal_sklearns() -> None:
    rng = np.random.default_rng(3)
    truth_N, probabilities_NK = rng.integers(0, 12, 400), rng.dirichlet(np.ones(12), 400)
    probabilities_NK[np.arange(400), truth_N] += 0.2
    predicted_N = probabilities_NK.argmax(axis=1)
    rows = {"truth": truth_N, "probabilities": probabilities_NK, "abstained": np.zeros(400, bool)}
    figures = by_name(TASK).summary(rows)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(truth_N, predicted_N, average="macro")
    assert (figures["precision"], figures["recall"], figures["f1"]) == pytest.approx((precision, recall, f1))
    assert figures["top2"] == pytest.approx(metrics.top_k_accuracy_score(truth_N, probabilities_NK, k=2))
    expected = 100 * metrics.confusion_matrix(truth_N, predicted_N, normalize="true")
    assert np.array(confusion(rows, NAMES)["percent"]) == pytest.approx(expected, abs=0.051)


def test_a_test_study_gets_from_evaluation_what_answer_gives_it(chain: dict[str, str], evaluated: Manifest) -> None:
    scores = read_scores(evaluated.path / "scores.parquet").to_pylist()
    model = runtimes.open(Path(chain["bundle"]).parent, InferenceSettings(precision="f32"))
    catalogue = read_catalogue(Path(chain["samples"]).parent / "catalogue.parquet").to_pylist()
    test = {row["sample"]: row for row in catalogue if row["split"] == "test"}
    assert {row["sample"] for row in scores} == set(test)
    for row in scores:
        study = read_dicom(Path(chain["studies"]).parent / test[row["sample"]]["uri"])
        assert row["probabilities"] == list(answer(study, model).result.probabilities.values())
        assert row["truth_label"] == test[row["sample"]]["label"]


def test_the_figures_are_the_tasks_summary_of_the_scores_and_lie_in_their_intervals(evaluated: Manifest) -> None:
    found = json.loads((evaluated.path / "evaluation.json").read_text())
    expected = by_name(TASK).summary(as_rows(read_scores(evaluated.path / "scores.parquet")))
    assert {name: figure["value"] for name, figure in found["figures"].items()} == expected
    assert all(figure["low"] <= figure["high"] for figure in found["figures"].values())
    assert (found["runtime"], found["precision"], found["threads"]) == ("openvino", "f32", 2)
    assert found["data"]["without_deid"] == found["data"]["patients_in_two_splits"] == 0
    assert sum(group["clips"] for group in found["subgroups"]["sex"].values()) == found["clips"]
    assert len(found["misclassified"]) == evaluated.counts["misclassified"]


def test_a_patient_in_two_splits_stops_an_evaluation(chain: dict[str, str]) -> None:
    bundle = read(Path(chain["bundle"]).parent)
    known = bundle.spec.data_digest, bundle.spec.split_id
    table = read_catalogue(Path(chain["samples"]).parent / "catalogue.parquet")
    assert len(check_test_set(table, *known, bundle))
    rows = table.to_pylist()
    trained = next(row["patient"] for row in rows if row["split"] == "train")
    next(row for row in rows if row["split"] == "test")["patient"] = trained
    with pytest.raises(ConfigError, match="more than one split"):
        check_test_set(pa.Table.from_pylist(rows, schema=table.schema), *known, bundle)


@pytest.mark.parametrize("change", [{"data_digest": DATA_DIGEST}, {"split_id": "another"}])
def test_a_bundle_from_other_data_or_another_split_is_not_evaluated(
    chain: dict[str, str], tmp_path: Path, change: dict[str, str]
) -> None:
    spec = read(Path(chain["bundle"]).parent).spec
    stated = {"data_digest": spec.data_digest, "split_id": spec.split_id} | change
    other = finish(make_tiny_bundle(tmp_path / "bundle", **stated), "export")
    with pytest.raises(ConfigError, match="training patients could be among those tested"):
        evaluate.run(evaluate.Config(root=str(tmp_path / "run"), **(chain | {"bundle": other})))


def test_a_test_study_that_changed_is_not_scored(tmp_path: Path) -> None:
    chain = make_chain(tmp_path, patients=6, views=2)
    catalogue = read_catalogue(Path(chain["samples"]).parent / "catalogue.parquet").to_pylist()
    uri = next(row["uri"] for row in catalogue if row["split"] == "test")
    path = Path(chain["studies"]).parent / uri
    path.write_bytes(path.read_bytes() + b"\0\0")
    with pytest.raises(StageError, match="changed since it was catalogued"):
        evaluate.run(evaluate.Config(root=str(tmp_path / "run"), **chain))


def test_the_report_needs_no_other_file_and_escapes_what_a_file_says(evaluated: Manifest, tmp_path: Path) -> None:
    found = json.loads((evaluated.path / "evaluation.json").read_text())
    group = next(iter(found["subgroups"]["manufacturer"].values()))
    found["subgroups"]["manufacturer"] = {"<script>alert(1)</script>": group}
    write_report(found, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("data:image/png;base64,") == 3
    assert "http" not in page
