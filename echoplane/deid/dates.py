"""Shifting of dates by whole days (PS3.15 E.3.6), so that every interval of a patient stays.

Times of day stay. What is not a whole, valid date (a year alone, the 30th of February) can't be shifted by days
and is removed.
"""

import re
from datetime import date, timedelta

_EARLIEST, _LATEST = "19850101", "20500101"
"""ACR-NEMA 300, the first form of DICOM, is of 1985; 20991231 says that there is no day."""
_DEFAULTS = frozenset(("20000101", "20010101"))
_DATE = re.compile(r"(\d{4})([.]?)(\d{2})\2(\d{2})", re.ASCII)
_TIME = re.compile(r"(?:[01]\d|2[0-3])(?:[0-5]\d(?:(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?", re.ASCII)
_DATETIME = re.compile(
    r"(\d{8})((?:[01]\d|2[0-3])(?:[0-5]\d(?:(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?)?([+-](?:0\d|1[0-4])[0-5]\d)?", re.ASCII
)


def of_an_examination(text: str) -> bool:
    """Whether a DA or DT can be the day of an examination. Others are known to everybody, such as 19000101 where
    nothing was known: shifted, they would tell by how many days."""
    day = text.strip("\0 ").replace(".", "")[:8]
    return _EARLIEST <= day < _LATEST and day not in _DEFAULTS


def shift_date(text: str, days: int) -> str:
    """A DA, also in the old form 2024.03.17, moved by `days`; empty where it is no date."""
    match = _DATE.fullmatch(text.strip("\0 "))
    if match is None:
        return ""
    try:
        moved = date(int(match[1]), int(match[3]), int(match[4])) + timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return f"{moved:%Y%m%d}" if moved.year >= 1000 else ""


def shift_datetime(text: str, days: int) -> str:
    """A DT moved by `days`, its time and offset from UTC as they were; empty where the day is not given."""
    match = _DATETIME.fullmatch(text.strip("\0 "))
    day = shift_date(match[1], days) if match else ""
    return f"{day}{match[2] or ''}{match[3] or ''}" if match and day else ""


def valid_time(text: str) -> str:
    """A TM as it is, also in the old form 12:30:00; empty where it is no time."""
    text = text.strip("\0 ").replace(":", "")
    return text if _TIME.fullmatch(text) else ""


def capped_age(text: str) -> str:
    """An AS with everything above 89 years as 090Y (PS3.15 E.3.5)."""
    match = re.fullmatch(r"(\d{3})([DWMY])", text.strip("\0 "), re.ASCII)
    if match is None:
        return ""
    years = int(match[1]) / {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}[match[2]]
    return "090Y" if years >= 90 else match[0]
