"""cmr-segmentation: preparing a cine, showing it to the network, and reading its answer."""

from dataclasses import replace

import numpy as np
import pytest

from echoplane.errors import UnusableStudy
from echoplane.study.cine import Cine, display_turn, turned
from echoplane.study.study import Study
from echoplane.tasks import Thresholds
from echoplane.tasks import cmr_segmentation as task
from echoplane.tasks.cmr_segmentation import structures
from echoplane.tasks.cmr_segmentation.cleaning import cleaned_stack, on_one_axis
from echoplane.tasks.cmr_segmentation.overlap import dice
from echoplane.tasks.cmr_segmentation.quality import atrium_flags, plausibility_flags, ventricle_flags
from echoplane.tasks.task import Prepared
from tests.rings import LA, LV, MYO, RV, logits_for, rings


def answered(
    labels_TZHW: np.ndarray, cine: Cine, *others: tuple[np.ndarray, Cine], sure: float = 12.0
) -> task.Segmentation:
    """What the task makes of a network that answers `labels`."""
    study = Study((), (cine, *(c for _, c in others)))
    prepared = task.preprocess(study, task.Preprocessing())
    rows = shown(prepared, [labels_TZHW, *(labels for labels, _ in others)])
    return task.interpret(inferred(prepared, rows, sure), study, prepared.place, Thresholds(abstain_below=0.85))


def shown(prepared: Prepared, truths: list[np.ndarray]) -> np.ndarray:
    """The labels (T, Z, H, W) of each cine as the network is shown its pictures: padded, and some mirrored too."""
    rows = np.zeros_like(prepared.batch)
    for row_HW, (number, t, z) in zip(rows, prepared.place["rows"], strict=True):
        labels_HW = truths[number][t, z]
        row_HW[: labels_HW.shape[0], : labels_HW.shape[1]] = labels_HW
    mirrored = rows[len(rows) - prepared.place["mirrored"] :]
    mirrored[:] = mirrored[:, :, ::-1].copy()
    return rows


def inferred(prepared: Prepared, labels_BHW: np.ndarray, sure: float = 12.0) -> np.ndarray:
    """What is kept of a network that answers `labels`, a row each: it is shown them as pictures."""
    return task.infer(lambda rows: logits_for(rows, sure), replace(prepared, batch=labels_BHW))


STACK = [[20, 18, 14, 8], [15, 13, 10, 5]]


def test_masks_come_back_on_the_grid_and_function_follows_from_them() -> None:
    labels, cine = rings(STACK, spacing_mm=(1.5, 1.4), slice_spacing_mm=10.0, covers_beat=False)
    found = answered(labels, cine)
    assert np.array_equal(found.masks["short-axis"], labels)
    volumes = [(labels[t] == LV).sum() * 1.5 * 1.4 * 10 / 1000 for t in range(2)]
    assert found.measures["lvedv_ml"] == pytest.approx(volumes[0])
    assert found.measures["lvef_percent"] == pytest.approx(100 * (1 - volumes[1] / volumes[0]))
    assert found.measures["lvco_l_min"] is None
    assert (found.ed, found.es) == (0, 1)


@pytest.mark.parametrize("transpose", [False, True])
def test_a_turned_picture_gets_its_mask_turned_back(transpose: bool) -> None:
    labels, cine = rings([[20, 18, 14]] * 2, covers_beat=False)
    labels[:, :, 10:20, 30:50] = RV  # so that no turn leaves it as it is
    affine = np.diag([1.5, 1.5, 10.0, 1.0])
    affine[:3, :2] = affine[:3, [1, 0]] if transpose else affine[:3, :2]
    lain = Cine("short-axis", cine.voxels_TZHW, (1.5, 1.5), 10.0, affine=affine, covers_beat=False)
    study = Study((), (lain,))
    prepared = task.preprocess(study, task.Preprocessing())
    assert prepared.batch.shape[1:] == (80, 80)
    turn = display_turn(affine)
    seen = turned(labels, turn)
    rows = np.stack([seen[t, z] for _, t, z in prepared.place["rows"]])
    rows[-prepared.place["mirrored"] :] = rows[-prepared.place["mirrored"] :, :, ::-1]
    found = task.interpret(inferred(prepared, rows), study, prepared.place, Thresholds(abstain_below=0.5))
    assert np.array_equal(found.masks["short-axis"], cleaned(labels))


def cleaned(labels_TZHW: np.ndarray) -> np.ndarray:
    return np.stack([cleaned_stack(labels_ZHW) for labels_ZHW in labels_TZHW])


def test_pixels_far_from_the_trained_size_are_resampled_and_the_mask_returns_to_them() -> None:
    labels, cine = rings([[40, 36, 28]] * 2, size=160, spacing_mm=(0.7, 0.7), slice_spacing_mm=8.0, covers_beat=False)
    prepared = task.preprocess(Study((), (cine,)), task.Preprocessing())
    assert prepared.batch.shape[1:] == (80, 80)
    small = labels[:, :, ::2, ::2]
    rows = np.stack([small[t, z] for _, t, z in prepared.place["rows"]])
    study = Study((), (cine,))
    found = task.interpret(inferred(prepared, rows), study, prepared.place, Thresholds(abstain_below=0.5))
    assert found.masks["short-axis"].shape == labels.shape
    assert dice(found.masks["short-axis"] == LV, labels == LV) > 0.95


def outputs_of(cine: Cine, plain: np.ndarray, mirrored: np.ndarray) -> tuple[np.ndarray, task.Segmentation]:
    """What is kept, and what is made of it, where slices and mirrored slices get these logits (K, H, W)."""
    study = Study((), (cine,))
    prepared = task.preprocess(study, task.Preprocessing())
    logits = np.stack([plain, mirrored[:, :, ::-1]], axis=1)
    places = np.arange(logits[0].size).reshape(logits.shape[1:])
    count = len(prepared.batch) - prepared.place["mirrored"]
    batch = np.stack([places[0]] * count + [places[1]] * prepared.place["mirrored"])
    flat_KN = logits.reshape(len(logits), -1)
    outputs = task.infer(lambda rows: np.moveaxis(flat_KN[:, rows], 0, 1), replace(prepared, batch=batch))
    return outputs, task.interpret(outputs, study, prepared.place, Thresholds(abstain_below=0.0))


def seen_in(labels_TZHW: np.ndarray, cine: Cine, *others: tuple[np.ndarray, Cine]) -> tuple[list, np.ndarray]:
    """Shapes of what a network that answers `labels` is shown, in turn, and the classes of the short axis."""
    prepared = task.preprocess(Study((), (cine, *(c for _, c in others))), task.Preprocessing())
    rows, shapes = shown(prepared, [labels_TZHW, *(labels for labels, _ in others)]), []

    def run(part: np.ndarray) -> np.ndarray:
        shapes.append(part.shape)
        return logits_for(part)

    found = task.infer(run, replace(prepared, batch=rows))["classes"]
    return shapes, found[: cine.present_TZ.sum()].reshape(labels_TZHW.shape)


def test_the_network_sees_later_phases_of_a_whole_cine_around_the_heart_alone() -> None:
    labels, cine = rings([[20, 18, 16]] * 12, size=160)
    atrium, long_axis = rings([[12]] * 12, size=160)
    long_axis = Cine("2-chamber", long_axis.voxels_TZHW)
    shapes, found = seen_in(labels, cine, (atrium * (atrium == LV), long_axis))
    assert np.array_equal(found, labels)
    # muscle ends 26 pixels from the middle, a margin of 24 beyond that at 30 and 130: 16 to 144
    later = [(16, 128, 128), (16, 128, 128), (1, 128, 128)]
    assert shapes == [(3, 160, 160), *later, (16, 160, 160), (2, 160, 160)]


def test_what_the_network_sees_follows_a_heart_that_grows_or_moves() -> None:
    growing, cine = rings([[6 + 4 * t] * 16 for t in range(12)], size=160)
    assert np.array_equal(seen_in(growing, cine)[1], growing)
    still, cine = rings([[14] * 16] * 12, size=160)
    moving = np.stack([np.roll(still[t], 3 * t, axis=-1) for t in range(12)])
    assert np.array_equal(seen_in(moving, cine)[1], moving)


def test_where_the_first_phase_shows_no_heart_the_next_is_seen_whole() -> None:
    labels, cine = rings([[20] * 16] * 12, size=160)
    labels[0] = 0
    shapes, found = seen_in(labels, cine)
    assert np.array_equal(found, labels)
    assert shapes[:3] == [(16, 160, 160), (16, 160, 160), (16, 128, 128)]


def test_two_phases_are_answered_by_the_mean_over_mirrored_slices_and_a_whole_cine_is_not() -> None:
    wide, narrow = (rings([[r] * 3] * 2)[0][0, 0] for r in (20, 12))
    unsure, sure = (logits_for(labels[None], by)[0] for labels, by in ((wide, 1.0), (narrow, 8.0)))
    _, cine = rings([[20] * 3] * 2, covers_beat=False)
    for plain, mirrored in ((unsure, sure), (sure, unsure)):
        outputs, found = outputs_of(cine, plain, mirrored)
        assert np.array_equal(found.masks["short-axis"][0, 0] == LV, narrow == LV)
        assert found.confidence < 0.9
        assert "mirror" in {flag.name for flag in found.flags}
    assert outputs_of(cine, sure, sure)[1].confidence > 0.99
    _, whole = rings([[20] * 3] * 20)
    outputs, found = outputs_of(whole, unsure, sure)
    assert "p" not in (outputs.dtype.names or ())
    assert np.array_equal(found.masks["short-axis"][0, 0] == LV, wide == LV)


@pytest.mark.parametrize("other", [12, 20])
def test_a_chamber_that_the_cavity_runs_into_at_the_base_is_cut_off(other: int) -> None:
    row, column = np.mgrid[:96, :128]
    ventricle = np.hypot(row - 48, column - 40) < 16
    joined = ventricle | (np.hypot(row - 48, column - 88) < other) | (abs(row - 48) < 3) & (column > 40) & (column < 88)
    kept = on_one_axis(np.stack([joined, ventricle, ventricle]))
    assert np.array_equal(kept[1:], np.stack([ventricle] * 2))
    assert dice(kept[0], ventricle) > 0.95
    assert not kept[0][:, 70:].any()
    lobed = ventricle | (np.hypot(row - 48, column - 58) < 12)  # as wide as itself where the two meet: one cavity
    assert np.array_equal(on_one_axis(np.stack([lobed, ventricle]))[0], lobed)


def test_a_larger_end_systolic_cavity_lowers_the_fraction() -> None:
    small, large = ([[20, 18, 14], [r, r - 2, r - 4]] for r in (10, 15))
    fractions = [answered(*rings(stack, covers_beat=False)).measures["lvef_percent"] for stack in (small, large)]
    assert fractions[0] > fractions[1]


def test_a_brighter_scan_gives_the_same_input() -> None:
    _, cine = rings(STACK, covers_beat=False)
    bright = Cine("short-axis", cine.voxels_TZHW.astype(np.float32) * 7 + 100, covers_beat=False)
    plain, other = (task.preprocess(Study((), (c,)), task.Preprocessing()).batch for c in (cine, bright))
    assert np.abs(plain.astype(int) - other).max() <= 1


def test_a_cine_that_starts_in_systole_is_read_from_its_largest_volume_and_says_so() -> None:
    radii = [[12, 10, 8]] * 3 + [[20, 18, 14]] * 7
    found = answered(*rings(radii, spacing_mm=(1.5, 1.5), slice_spacing_mm=10.0, frame_time_ms=80.0))
    assert found.ed == 3
    assert any("does not start at end diastole" in said for said in found.warnings)


def names(flags: object) -> set[str]:
    return {flag.name for flag in flags}


def test_a_good_answer_has_no_flag_and_an_empty_one_says_no_heart() -> None:
    labels, cine = rings(STACK, spacing_mm=(1.8, 1.8), slice_spacing_mm=10.0, covers_beat=False)
    labels[0, :, 15:65, 1:16][labels[0, :, 15:65, 1:16] == 0] = RV
    labels[1, 1:, 20:60, 8:22][labels[1, 1:, 20:60, 8:22] == 0] = RV  # its base leaves the first slice in systole
    assert [flag.sentence for flag in answered(labels, cine).flags] == []
    assert answered(labels, cine).label == "measured"
    empty = answered(labels * 0, cine)
    assert "no-lv" in names(empty.flags)
    assert empty.label is None


def test_a_right_ventricle_that_is_not_there_is_flagged_and_has_no_volume() -> None:
    found = answered(*rings(STACK, spacing_mm=(1.8, 1.8), slice_spacing_mm=10.0, covers_beat=False))
    assert names(found.flags) == {"no-rv"}
    assert all(value is None for name, value in found.measures.items() if name.startswith("rv"))
    assert found.measures["lvedv_ml"] is not None


def test_an_unsure_network_is_flagged() -> None:
    labels, cine = rings(STACK, covers_beat=False)
    found = answered(labels, cine, sure=1.0)
    assert "unsure" in names(found.flags)
    assert found.confidence < 0.85


def test_a_flag_does_not_contradict_itself() -> None:
    (flag,) = plausibility_flags({"lvesv_ml": 3.6, "lvedv_ml": 31.0}, {"lvesv_ml": "LVESV (mL)"})
    assert flag.sentence == "LVESV (mL) is 3.6; 4 to 950 is plausible."


def test_a_gap_and_a_jump_are_flagged() -> None:
    labels, cine = rings([[20, 18, 14, 8]] * 12)
    labels[0, 1] = 0
    lv_T = np.full(12, 100.0)
    lv_T[5] = 40
    flags = ventricle_flags(labels, lv_T, 0, 5, cine)
    assert {"gap", "jump"} <= names(flags)


def test_what_lies_apart_is_removed_and_more_of_it_than_what_stays_is_flagged() -> None:
    labels, cine = rings(STACK, covers_beat=False)
    some, much = labels.copy(), labels.copy()
    some[:, :, 2:20, 2:20] = LV
    for rows, columns in ((2, 2), (60, 2), (60, 60)):
        much[:, :, rows : rows + 18, columns : columns + 18] = LV
    found = [answered(raw, cine) for raw in (some, much)]
    assert all(np.array_equal(each.masks["short-axis"], labels) for each in found)
    assert ["components" in names(each.flags) for each in found] == [False, True]


def test_a_papillary_muscle_at_the_wall_belongs_to_the_cavity_and_what_is_round_stays_as_it_is() -> None:
    labels, _ = rings([[20, 18, 14, 8]])
    assert np.array_equal(cleaned_stack(labels[0]), labels[0])
    notched = labels[0].copy()
    notched[0, 38:43, 50:60] = MYO
    outside = notched.copy()
    outside[0, 40, 66:] = LV  # a hull would reach far over what is no muscle
    for given in (notched, outside):
        found = cleaned_stack(given)
        assert (found[0] == LV)[38:43, 50:58].all()
        assert not (found[0] == LV)[:14].any()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda m: m.__setitem__(3, 0), "vanished"),
        (lambda m: m.__setitem__((slice(None), slice(0, 6), slice(0, 6)), LA), "parts"),
        (lambda m: m.__setitem__((3, slice(15, 40)), LA), "doubled"),
    ],
)
def test_the_papers_three_rules_for_an_atrium(change, name: str) -> None:
    masks = np.zeros((8, 48, 48), np.uint8)
    masks[:, 18:30, 18:30] = LA
    assert atrium_flags("2-chamber", masks, structures.SHOWN["2-chamber"]) == []
    change(masks)
    assert name in names(atrium_flags("2-chamber", masks, structures.SHOWN["2-chamber"]))


def test_long_axis_cines_give_biplane_atria() -> None:
    labels, cine = rings(STACK, spacing_mm=(1.5, 1.5), slice_spacing_mm=10.0, covers_beat=False)
    row, column = np.mgrid[:80, :80]
    inside = ((row - 40) / 22) ** 2 + ((column - 40) / 15) ** 2 < 1
    planes = []
    for plane in ("2-chamber", "4-chamber"):
        picture = np.where(inside, 220, 40).astype(np.uint8)[None, None].repeat(2, axis=0)
        planes.append((np.where(inside, LA, 0)[None, None].repeat(2, axis=0), Cine(plane, picture, (1.5, 1.5))))
    found = answered(labels, cine, *planes)
    assert found.measures["lav_max_ml"] == pytest.approx(4 / 3 * np.pi * 22 * 15 * 15 * 1.5**3 / 1000, rel=0.03)
    assert found.measures["rav_max_ml"] is None
    assert found.masks["4-chamber"].shape == (2, 1, 80, 80)


def test_a_study_without_a_short_axis_is_refused() -> None:
    with pytest.raises(UnusableStudy, match="no short axis cine"):
        task.preprocess(Study(()), task.Preprocessing())


# The torch half
