"""What the benchmarks make of their figures: thresholds of flags, and the page of results."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import cluster, results
from benchmarks.cmr_results import flagged, unsure_below
from benchmarks.cmr_scores import Row
from benchmarks.leakage import chance_of


def row(patient: str, dice: float, expected: float, flags: tuple[str, ...] = ()) -> Row:
    return Row(patient, dice, dice, 1.0, 2.0, 60.0, 61.0, expected, flags)


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
    """Of a permutation's fixed points, fewer than 1 in 40 has more than three: Poisson of mean 1."""
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
