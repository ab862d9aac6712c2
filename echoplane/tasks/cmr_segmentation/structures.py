"""Classes of the segmentation, the planes that show them, and training targets for partially annotated label maps.

Class numbers are those of Bai et al. (arXiv 1710.09289), not those of ACDC, which has the reverse order.
A pixel of a training target is one byte, `may_be | plane bits`: the low six bits are the classes that the pixel may be,
the high two its plane. If only the LV cavity is annotated, a pixel is "LV cavity" or "any other class of this plane",
so that classes that are not annotated do not affect the loss. Axes: H row, W column."""

from dataclasses import dataclass

import numpy as np

BACKGROUND, LV_CAVITY, MYOCARDIUM, RV_CAVITY, LEFT_ATRIUM, RIGHT_ATRIUM = range(6)
CLASSES = 6


@dataclass(frozen=True)
class Structure:
    """Class of a mask; codes are SNOMED CT, as DICOM's CID 3010 and 12305 list them."""

    value: int
    name: str
    title: str
    code: str
    meaning: str


STRUCTURES = (
    Structure(BACKGROUND, "background", "background", "125040", "Background"),
    Structure(LV_CAVITY, "lv-cavity", "left ventricular cavity", "87878005", "Left ventricle"),
    Structure(MYOCARDIUM, "lv-myocardium", "left ventricular myocardium", "49848007", "Left Ventricle Myocardium"),
    Structure(RV_CAVITY, "rv-cavity", "right ventricular cavity", "53085002", "Right ventricle"),
    Structure(LEFT_ATRIUM, "left-atrium", "left atrium", "82471001", "Left atrium"),
    Structure(RIGHT_ATRIUM, "right-atrium", "right atrium", "73829009", "Right atrium"),
)
COLOURS = {
    LV_CAVITY: (255, 80, 80),
    MYOCARDIUM: (90, 220, 90),
    RV_CAVITY: (80, 160, 255),
    LEFT_ATRIUM: (255, 190, 60),
    RIGHT_ATRIUM: (200, 110, 255),
}
"""Colour (RGB) of each structure's contour, in the report and in DICOM viewers."""
SHOWN: dict[str, tuple[int, ...]] = {
    "short-axis": (BACKGROUND, LV_CAVITY, MYOCARDIUM, RV_CAVITY),
    "2-chamber": (BACKGROUND, LEFT_ATRIUM),
    "4-chamber": (BACKGROUND, LEFT_ATRIUM, RIGHT_ATRIUM),
}
"""Classes of each plane, in the paper's order. Classes of other planes are masked in the loss and in the result."""
PLANES: tuple[str, ...] = tuple(SHOWN)
PLANE_SHIFT = CLASSES


def bits(classes: tuple[int, ...]) -> int:
    return sum(1 << k for k in classes)


def target_of(labels_HW: np.ndarray, plane: str, drawn: tuple[int, ...] | None = None) -> np.ndarray:
    """Returns the training target (row, column) uint8 of a label map whose annotated classes are `drawn` (None: all).

    A pixel of no annotated class may be any class of the plane that is not annotated, background included.
    """
    shown = SHOWN[plane]
    kept = shown[1:] if drawn is None else drawn
    rest = bits(tuple(k for k in shown if k not in kept))
    target_HW = np.full(labels_HW.shape, rest, np.uint8)
    for k in kept:
        target_HW[labels_HW == k] = 1 << k
    return target_HW | np.uint8(PLANES.index(plane) << PLANE_SHIFT)


def plane_of(target_HW: np.ndarray) -> str:
    """Returns the plane of a target, which each of its bytes states."""
    return PLANES[int(target_HW.flat[0]) >> PLANE_SHIFT]


def unknown_of(target_HW: np.ndarray) -> int:
    """Returns the target byte of an unknown pixel, which may be any class of the plane."""
    plane = plane_of(target_HW)
    return bits(SHOWN[plane]) | PLANES.index(plane) << PLANE_SHIFT
