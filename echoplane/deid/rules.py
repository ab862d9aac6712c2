"""Rules as data: the attributes that may be kept in each class of object, and their entries in PS3.15.

`data/allowed.csv` is the allow list, `data/ps3_15_e1.csv` table E.1-1 with its option columns, `data/words.csv` the
words that free text may keep, `data/safe_private.csv` the private numbers that an option keeps,
`data/sop_classes.csv` the classes, `data/devices.csv` the position of the scan for known machines. Everything else is
removed.
"""

import csv
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources

from pydicom.datadict import dictionary_VM
from pydicom.tag import BaseTag

from echoplane.deid.policy import Policy

DATE_VRS = frozenset(("DA", "DT", "TM"))
TEXT_VRS = frozenset(("LO", "SH", "ST", "LT", "UT", "UC"))
_IDENTITY = frozenset(("PatientName", "PatientID"))
_JUDGED_AS = {0x00101022: 0x00101020}
"""Body mass index, which the profile does not list, is a patient's characteristic as the size is."""


@dataclass(frozen=True)
class Allowed:
    """Row of the allow list."""

    tag: BaseTag
    keyword: str
    vr: str
    classes: frozenset[str]
    most: int | None
    """Maximum number of values; None if unlimited."""


@dataclass(frozen=True)
class Profile:
    """Row of PS3.15 table E.1-1; X remove, Z empty, D dummy, U new UID, K keep, C clean."""

    basic: str
    device: str
    institution: str
    patient: str
    full_dates: str
    modified_dates: str
    descriptors: str


_COLUMNS = tuple(column.name for column in fields(Profile))


def rows(name: str) -> list[dict[str, str]]:
    with (resources.files("echoplane.deid") / "data" / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@cache
def allow_list(object_class: str) -> dict[int, Allowed]:
    """Returns the attributes that may be kept in this class, by tag; the same list applies at every depth."""
    listed = [
        Allowed(
            tag=BaseTag(int(row["tag"], 16)),
            keyword=row["keyword"],
            vr=row["vr"],
            classes=frozenset(row["classes"].split()),
            most=_most(dictionary_VM(row["keyword"])),
        )
        for row in rows("allowed.csv")
    ]
    return {int(row.tag): row for row in listed if row.classes & {"all", object_class}}


def _most(multiplicity: str) -> int | None:
    most = multiplicity.split("-")[-1]
    return int(most) if most.isdigit() else None


@cache
def safe_private() -> dict[tuple[str, int, int], Allowed]:
    """Returns the rules of private numbers that may be kept, by creator, group and element (PS3.5 7.8.1)."""
    return {
        (row["creator"], int(row["group"], 16), int(row["element"], 16)): Allowed(
            tag=BaseTag(int(row["group"], 16) << 16 | 0x1000 | int(row["element"], 16)),
            keyword=f"{row['creator']}: {row['name']}",
            vr=row["vr"],
            classes=frozenset(("all",)),
            most=int(row["most"]),
        )
        for row in rows("safe_private.csv")
    }


@cache
def private_creators() -> frozenset[str]:
    """Returns the private creators that the output may have."""
    return frozenset(creator for creator, _, _ in safe_private())


@cache
def profile() -> dict[int, Profile]:
    """Returns table E.1-1 by tag, without repeating groups (50xx, 60xx) and private ones, which are never allowed."""
    return {
        int(row["tag"], 16): Profile(*(row[column] for column in _COLUMNS))
        for row in rows("ps3_15_e1.csv")
        if not set(row["tag"]) - set("0123456789ABCDEF")
    }


@cache
def words() -> frozenset[str]:
    """Returns the words, in capitals, that a description may keep."""
    return frozenset(row["word"] for row in rows("words.csv"))


@cache
def words_of(kinds: tuple[str, ...]) -> frozenset[str]:
    """Returns the words of these kinds, such as "vendor", in capitals."""
    return frozenset(row["word"] for row in rows("words.csv") if row["kind"] in kinds)


@cache
def names_among_words() -> dict[str, frozenset[str]]:
    """Returns listed words that are also names of people, each with the context in which it is a term.

    The context is a set of adjacent words or attributes; if it is empty, any context will do. Surnames and given names
    are those of the US Census Bureau of 1990 (public domain)."""
    return {row["word"]: frozenset(row["beside"].split()) for row in rows("words.csv") if row["name"]}


@cache
def devices() -> dict[tuple[str, str, int, int], tuple[int, int, int, int]]:
    """Returns the box of the scan (top, left, bottom, right, exclusive) by manufacturer, model, rows and columns."""
    return {
        (row["manufacturer"].casefold(), row["model"].casefold(), int(row["rows"]), int(row["columns"])): (
            int(row["top"]), int(row["left"]), int(row["bottom"]), int(row["right"]),
        )
        for row in rows("devices.csv")
    }  # fmt: skip


@cache
def sop_classes() -> dict[str, str]:
    """Returns the class of object by SOP Class UID, or the reason code with which it is refused."""
    return {row["uid"]: row["class"] for row in rows("sop_classes.csv")}


@cache
def action(rule: Allowed, policy: Policy) -> str:
    """Returns the action for an attribute of the allow list: keep, shift, words, empty, drop or pseudonym."""
    row = profile().get(_JUDGED_AS.get(int(rule.tag), int(rule.tag)))
    if rule.keyword in _IDENTITY:
        return "pseudonym"
    if rule.vr in DATE_VRS:
        stays = {
            "shift": row is None or row.modified_dates == "C",
            "keep": row is None or row.full_dates == "K",
            "remove": False,
        }
        return "shift" if stays[policy.dates] else "empty"
    if row is not None:
        return _by_profile(row, policy)
    return "words" if rule.vr in TEXT_VRS else "keep"


def _by_profile(row: Profile, policy: Policy) -> str:
    chosen = (
        row.patient if policy.patient_characteristics else "",
        row.device if policy.device_identity else "",
        row.institution if policy.institution_identity else "",
        row.descriptors if policy.descriptors else "",
    )
    if "C" in chosen:
        return "words"
    if "K" in chosen or row.basic == "U" or row.basic == "X/Z/U":
        return "keep"
    return "empty" if "Z" in row.basic else "drop"


@cache
def retained(policy: Policy) -> frozenset[int]:
    """Returns the text attributes that an option keeps, so that their words are not identifying values."""
    chosen = set()
    for rule in (rule for kind in policy.classes for rule in allow_list(kind).values()):
        row = profile().get(int(rule.tag))
        kept = row is not None and (
            (policy.device_identity and row.device == "K") or (policy.institution_identity and row.institution == "K")
        )
        if kept and rule.vr in TEXT_VRS:
            chosen.add(int(rule.tag))
    return frozenset(chosen)
