"""A third training of the cine MR benchmark: varied synthetic slices, and a bundle made from another."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import cmr_results, cmr_training
from benchmarks.cmr_bundle import real_lines_of, sealed
from benchmarks.sunnybrook import STRATA
from echoplane.bundle import read
from echoplane.dataset.segmentations import Slice, write_slices
from echoplane.tasks.cmr_segmentation import learning
from echoplane.tasks.cmr_segmentation.structures import unknown_of
from echoplane.training.checkpoint import State

SMALL = learning.Network(width=8)
CARD = """# cmr-segmentation

## Figures

30 real patients, all of them, each answered by a model of this recipe that had not seen it:
Dice of the LV cavity 0.933 at end diastole, 0.895 at end systole.

100 unseen synthetic patients, field seen in training: Dice lv 0.965.
"""


@pytest.fixture(scope="module")
def varied() -> list[Slice]:
    return cmr_training.adapting_slices(20_000)


def test_slices_of_any_size_are_framed_around_the_heart(varied: list[Slice]) -> None:
    assert {each.sample.shape for each in varied} == {(2, cmr_training.SIDE, cmr_training.SIDE)}
    assert {each.stratum for each in varied} == {STRATA + 3, STRATA + 4, STRATA + 5}
    assert {each.patient for each in varied} == {"phantom-20000"}
    for each in varied:
        drawn = np.argwhere(learning.DRAWN[each.sample[1]] > 0)
        if len(drawn):
            np.testing.assert_allclose(drawn.mean(axis=0), cmr_training.SIDE / 2, atol=12)


def test_beyond_the_edge_a_framed_slice_is_black_and_unknown(varied: list[Slice]) -> None:
    image_HW, target_HW = varied[0].sample[:, 90:130, 80:150]
    image, target = cmr_training.framed(image_HW + 1, target_HW)
    outside = image == 0
    assert outside.sum() == cmr_training.SIDE**2 - image_HW.size
    assert (target[outside] == unknown_of(target_HW)).all()


def test_a_bundle_is_adapted_and_says_what_was_not_measured(
    tmp_path: Path, varied: list[Slice], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    state = State(weights=learning.network(SMALL).state_dict())
    before = sealed(state, SMALL, tmp_path / "before", card=CARD, data_digest="0" * 64, abstain_below=0.75)
    monkeypatch.setattr(cmr_training, "WORK", tmp_path)
    for name, stratum in (("varied", None), ("sunnybrook", 0)):
        write_slices([each if stratum is None else _in(stratum, each) for each in varied], tmp_path / name)
    monkeypatch.setattr(cmr_training, "ADAPT", cmr_training.ADAPT.model_copy(update={"steps": 2, "epoch_steps": 2}))
    monkeypatch.setattr(cmr_results, "_phantoms", lambda *_: {})
    after = read(cmr_training.adapt_bundle(before, SMALL, threads=1))
    assert after.id != read(before).id
    assert after.thresholds.model_dump()["abstain_below"] == 0.75
    card = (tmp_path / "candidate" / "card.md").read_text()
    assert f"those of bundle {read(before).id[:12]}" in card
    assert "no real patient was left that the model had not seen" in card
    assert "30 real patients, all of them" in card
    assert "Dice lv 0.965" not in card


def test_a_card_without_figures_of_real_patients_is_refused(tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text("# cmr-segmentation\n")
    with pytest.raises(ValueError, match="no figures of real patients"):
        real_lines_of(tmp_path)


def _in(stratum: int, each: Slice) -> Slice:
    return Slice(each.sample, stratum, f"{stratum}-{each.name}", f"{stratum}-{each.patient}", each.source)
