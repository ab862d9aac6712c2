"""The rules as data: which attributes may stay in which class of object, and what PS3.15 says of each.

`data/allowed.csv` is the allow list, `data/ps3_15_e1.csv` is table E.1-1 with its option columns, `data/words.csv`
are the words that free text may keep, `data/safe_private.csv` the private numbers that an option keeps,
`data/sop_classes.csv` the classes, `data/devices.csv` where known machines draw the scan. What no file lists is
removed.
"""

import csv
import re
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources

from pydicom.datadict import dictionary_VM
from pydicom.tag import BaseTag

from echoplane.deid.policy import Policy

DATE_VRS = frozenset(("DA", "DT", "TM"))
TEXT_VRS = frozenset(("LO", "SH", "ST", "LT", "UT", "UC"))
# 25, E95, CX50, 0001, 7C: model numbers, counters and sizes, too short to be a record number or a year
_SHORT_NUMBER = re.compile(r"\d{1,3}|0\d{3}|(?=.*\d)[A-Z0-9]{1,4}", re.IGNORECASE | re.ASCII)
_FOUR_DIGITS = re.compile(r"[1-9]\d{3}", re.ASCII)
_IDENTITY = frozenset(("PatientName", "PatientID"))


@dataclass(frozen=True)
class Allowed:
    """One row of the allow list."""

    tag: BaseTag
    keyword: str
    vr: str
    classes: frozenset[str]
    most: int | None
    """how many values there may be; None where there is no limit"""


@dataclass(frozen=True)
class Profile:
    """One row of PS3.15 table E.1-1; X remove, Z empty, D dummy, U new UID, K keep, C clean."""

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
    """The attributes that may stay in this class, by tag; the same list holds at every depth."""
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
    """Creator, group and element within its block (PS3.5 7.8.1) -> the rule of a private number that may stay."""
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
    """The names that private blocks of the output may have."""
    return frozenset(creator for creator, _, _ in safe_private())


@cache
def profile() -> dict[int, Profile]:
    """Table E.1-1 by tag. Repeating groups (50xx, 60xx) and private ones are never on the allow list."""
    return {
        int(row["tag"], 16): Profile(*(row[column] for column in _COLUMNS))
        for row in rows("ps3_15_e1.csv")
        if not set(row["tag"]) - set("0123456789ABCDEF")
    }


@cache
def words() -> frozenset[str]:
    """Words, in capitals, that a description may keep."""
    return frozenset(row["word"] for row in rows("words.csv"))


@cache
def names_among_words() -> dict[str, frozenset[str]]:
    """Listed words that are people's names too -> the words or attributes beside which they are none; empty if any.

    Surnames and given names are those of the US Census Bureau of 1990 (public domain)."""
    return {row["word"]: frozenset(row["beside"].split()) for row in rows("words.csv") if row["name"]}


def short_number(token: str) -> bool:
    """Whether a token that is on no list may stay as a number: 25, E95, 0001, but not 1948."""
    return bool(_SHORT_NUMBER.fullmatch(token)) and not _FOUR_DIGITS.fullmatch(token)


@cache
def devices() -> dict[tuple[str, str, int, int], tuple[int, int, int, int]]:
    """Manufacturer, model, rows and columns -> the box of the scan: top, left, bottom, right, exclusive."""
    return {
        (row["manufacturer"].casefold(), row["model"].casefold(), int(row["rows"]), int(row["columns"])): (
            int(row["top"]), int(row["left"]), int(row["bottom"]), int(row["right"]),
        )
        for row in rows("devices.csv")
    }  # fmt: skip


@cache
def sop_classes() -> dict[str, str]:
    """SOP Class UID -> class of object, or the reason code with which it is refused."""
    return {row["uid"]: row["class"] for row in rows("sop_classes.csv")}


@cache
def action(rule: Allowed, policy: Policy) -> str:
    """What is done with an attribute of the allow list: keep, shift, words, empty, drop or pseudonym."""
    row = profile().get(int(rule.tag))
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
    """Attributes whose words an option keeps: they are no secret of the file."""
    chosen = set()
    for rule in (rule for kind in policy.classes for rule in allow_list(kind).values()):
        row = profile().get(int(rule.tag))
        kept = row is not None and (
            (policy.device_identity and row.device == "K") or (policy.institution_identity and row.institution == "K")
        )
        if kept and rule.vr in TEXT_VRS:
            chosen.add(int(rule.tag))
    return frozenset(chosen)
