"""Learning from real stills: who teaches and who tests, and what each way of learning changes."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from benchmarks import results, views_camus
from benchmarks.views_camus import Stills
from benchmarks.views_pictures import COLUMNS, ROWS, Pictures, camus
from echoplane.tasks.view_image import learning

SMALL = learning.Network(width=4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(1, 9):
        for k, view in enumerate(("a2c", "a4c")):
            picture = rng.integers(0, 120, (ROWS, COLUMNS)).astype(np.uint8)
            picture[:, : COLUMNS // 2] += np.uint8(100 * k)  # the side tells the view
            cv2.imwrite(str(tmp_path / f"{view}__patient{number:04d}_ED.png"), picture)
    return tmp_path


@pytest.fixture
def teachers(folder: Path) -> Stills:
    return Stills(*camus(folder, "choose"))


def test_labelled_patients_are_drawn_with_all_their_stills_from_the_odd_half(teachers: Stills) -> None:
    drawn = views_camus.drawn(teachers, 2, seed=1)
    assert len(drawn.patient_N) == 4
    assert len(set(drawn.patient_N)) == 2
    assert set(drawn.patient_N) <= {1, 3, 5, 7}
    assert np.array_equal(drawn.patient_N, views_camus.drawn(teachers, 2, seed=1).patient_N)


def test_tuning_learns_from_the_stills_it_is_given(teachers: Stills) -> None:
    weights = views_camus.tuned(None, SMALL, teachers, 1e-2, 40, seed=0)
    assert views_camus.accuracy(weights, SMALL, teachers.data) == 1
    start = learning.network(SMALL).state_dict()
    near = views_camus.tuned(start, SMALL, teachers, 1e-6, 1, seed=0)
    assert torch.allclose(near["classify.weight"], start["classify.weight"], atol=1e-4)


def test_without_labels_only_means_and_variances_change(teachers: Stills) -> None:
    start = {name: value.clone() for name, value in learning.network(SMALL).state_dict().items()}
    adapted = views_camus.with_their_norms(start, SMALL, teachers)
    changed = {name.rsplit(".", 1)[1] for name in start if not torch.equal(start[name], adapted[name])}
    assert changed == {"running_mean", "running_var", "num_batches_tracked"}


def test_it_teaches_itself_on_its_surest_half_with_its_own_answers(
    teachers: Stills, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Stills] = []
    monkeypatch.setattr(views_camus, "tuned", lambda start, network, own, *rest, seed: seen.append(own) or start)
    weights = learning.network(SMALL).state_dict()
    views_camus.self_taught(weights, SMALL, teachers, (1e-3, 2))
    (own,) = seen
    assert len(own.patient_N) == 4
    answers = views_camus.logits([weights], SMALL, own.data).argmax(axis=1)
    assert np.array_equal(own.data.label_N, answers)


def test_the_page_has_a_row_for_each_way_and_says_what_was_used(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hearts = np.random.default_rng(1).integers(0, 255, (15, ROWS, COLUMNS)).astype(np.uint8)
    monkeypatch.setattr(results, "MEASURED", tmp_path / "bench")
    monkeypatch.setattr(results, "PAGE", tmp_path / "results.md")
    monkeypatch.setattr(views_camus, "pictures", lambda *_: Pictures(hearts, np.arange(15)))
    monkeypatch.setattr(views_camus, "shipped_member", lambda: (learning.network(SMALL).state_dict(), SMALL))
    monkeypatch.setattr(views_camus, "SIZES", (1, 2))
    monkeypatch.setattr(views_camus, "SEEDS", (0, 1))
    monkeypatch.setattr(views_camus, "SETTINGS", ((1e-3, 1),))
    views_camus.measure(folder)
    page = (tmp_path / "results.md").read_text()
    assert "Used CAMUS" in page
    assert page.count("from scratch, ") == page.count("| tuned, ") == 2
    assert page.count("without labels: ") == 2
    assert "| at least 97 |" in page
    assert "stills of 4 patients with even numbers" in page
