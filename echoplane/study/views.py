"""Views of a transthoracic echo, with their DICOM codes.

The twelve video views are those of Madani et al. 2018 (arXiv 1706.08658). Codes are from PS3.16 CID 12226
"Echocardiography Image View"; the CID has no entry for three of them, which therefore carry a code of the private
scheme 99ECHOPLANE rather than a similar view's code.
"""

from dataclasses import dataclass

PRIVATE_SCHEME = "99ECHOPLANE"


@dataclass(frozen=True)
class View:
    """One view: `name` in data, `title` for people, and its code triplet."""

    name: str
    title: str
    code: str
    scheme: str
    meaning: str


VIDEO_VIEWS: tuple[View, ...] = (
    View("plax", "parasternal long axis", "399139001", "SCT", "Parasternal long axis"),
    View("rv-inflow", "right ventricular inflow", "398998003", "SCT", "Right Ventricular Inflow Tract View"),
    View(
        "sax-basal",
        "basal short axis, aortic valve",
        "399239005",
        "SCT",
        "Parasternal short axis at the aortic valve level",
    ),
    View(
        "sax-mid",
        "mid short axis, papillary muscles",
        "399271003",
        "SCT",
        "Parasternal short axis at the Papillary Muscle level",
    ),
    View("a4c", "apical four chamber", "399214001", "SCT", "Apical four chamber"),
    View("a5c", "apical five chamber", "A5C", PRIVATE_SCHEME, "Apical five chamber"),
    View("a2c", "apical two chamber", "399232001", "SCT", "Apical two chamber"),
    View("a3c", "apical three chamber", "399339008", "SCT", "Apical long axis"),
    View("subcostal-4c", "subcostal four chamber", "399310008", "SCT", "Subcostal long axis"),
    View("subcostal-ivc", "subcostal, inferior vena cava", "SUBIVC", PRIVATE_SCHEME, "Subcostal inferior vena cava"),
    View("subcostal-aorta", "subcostal, abdominal aorta", "SUBAO", PRIVATE_SCHEME, "Subcostal abdominal aorta"),
    View("suprasternal", "suprasternal, aortic arch", "443562002", "SCT", "Suprasternal long axis view of aortic arch"),
)

STILL_VIEWS: tuple[View, ...] = (
    View("pw-doppler", "pulsed wave Doppler", "261199008", "SCT", "Doppler Pulsed"),
    View("cw-doppler", "continuous wave Doppler", "261198000", "SCT", "Doppler Continuous Wave"),
    View("m-mode", "M-mode", "399155008", "SCT", "M mode"),
)
"""Kinds of stills without a view of their own; codes are from PS3.16 CID 12224 "Ultrasound Image Modes"."""
IMAGE_VIEWS = VIDEO_VIEWS + STILL_VIEWS

_BY_CODE = {(view.scheme, view.code): view for view in IMAGE_VIEWS}
_BY_NAME = {view.name: view for view in IMAGE_VIEWS}


def by_name(name: str) -> View:
    """Returns the view called `name`. Raises KeyError if there is none."""
    return _BY_NAME[name]


def by_code(scheme: str, code: str) -> View | None:
    """Returns the view that a ViewCodeSequence item names, or None for a code outside the list."""
    return _BY_CODE.get((scheme, code))
