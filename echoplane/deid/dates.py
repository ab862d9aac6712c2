"""Shifting of dates by whole days (PS3.15 E.3.6), which keeps the intervals between dates of a patient.

Times of day are kept. Incomplete or invalid dates (a year alone, the 30th of February) cannot be shifted and are
removed.
"""

import re
from datetime import date, timedelta

_EARLIEST, _LATEST = "19850101", "20500101"
"""Range of plausible examination dates: ACR-NEMA 300, the predecessor of DICOM, is of 1985; dates such as 20991231
stand for "unknown"."""
_DEFAULTS = frozenset(("20000101", "20010101"))
_DATE = re.compile(r"(\d{4})([.]?)(\d{2})\2(\d{2})", re.ASCII)
_TIME = re.compile(r"(?:[01]\d|2[0-3])(?:[0-5]\d(?:(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?", re.ASCII)
_DATETIME = re.compile(
    r"(\d{8})((?:[01]\d|2[0-3])(?:[0-5]\d(?:(?:[0-5]\d|60)(?:\.\d{1,6})?)?)?)?([+-](?:0\d|1[0-4])[0-5]\d)?", re.ASCII
)


def of_an_examination(text: str) -> bool:
    """Returns True if a DA or DT can be the date of an examination.

    Others are well-known placeholders such as 19000101: shifted, they would disclose the number of days.
    """
    day = text.strip("\0 ").replace(".", "")[:8]
    return _EARLIEST <= day < _LATEST and day not in _DEFAULTS


def shift_date(text: str, days: int) -> str:
    """Returns a DA, also one in the old form 2024.03.17, shifted by `days`; empty if it is no date."""
    match = _DATE.fullmatch(text.strip("\0 "))
    if match is None:
        return ""
    try:
        moved = date(int(match[1]), int(match[3]), int(match[4])) + timedelta(days=days)
    except (ValueError, OverflowError):
        return ""
    return f"{moved:%Y%m%d}" if moved.year >= 1000 else ""


def shift_datetime(text: str, days: int) -> str:
    """Returns a DT shifted by `days`, with unchanged time and offset from UTC; empty if the day is missing."""
    match = _DATETIME.fullmatch(text.strip("\0 "))
    day = shift_date(match[1], days) if match else ""
    return f"{day}{match[2] or ''}{match[3] or ''}" if match and day else ""


def valid_time(text: str) -> str:
    """Returns a TM unchanged, or without the colons of the old form 12:30:00; empty if it is no time."""
    text = text.strip("\0 ").replace(":", "")
    return text if _TIME.fullmatch(text) else ""


def capped_age(text: str) -> str:
    """Returns an AS, with every age above 89 years as 090Y (PS3.15 E.3.5); empty if it is no age."""
    match = re.fullmatch(r"(\d{3})([DWMY])", text.strip("\0 "), re.ASCII)
    if match is None:
        return ""
    years = int(match[1]) / {"D": 365.25, "W": 52.18, "M": 12, "Y": 1}[match[2]]
    return "090Y" if years >= 90 else match[0]
