"""Numbers that point at a person, however they are written: a record number without its zeros, a day cut in three.

Short numbers may stay in free text (25 fps, 3 of 4). Several of them together can be a day of birth, a telephone
number or the record number with spaces in it.
"""

import re

_LEAST_DIGITS = 5
"""of an identifier; shorter ones are too common as counts and sizes"""
_MOST_DIGITS, _MOST_VERSION_DIGITS = 5, 12
_LONGEST_IN_VERSION = 3
_MOST_TOGETHER = 2
_TWO_DIGITS = re.compile(r"\d\d", re.ASCII)


def of_identifier(text: str) -> set[str]:
    """The digits of an identifier, without what parts them and without leading zeros; none if there are few."""
    digits = re.sub(r"[^0-9]", "", text).lstrip("0")
    return {digits} if len(digits) >= _LEAST_DIGITS else set()


def of_birth_date(text: str) -> set[str]:
    """A DA as people write it in digits, whole or in part, without leading zeros."""
    match = re.fullmatch(r"(\d\d(\d\d))(\d\d)(\d\d)", text.replace(".", ""), re.ASCII)
    if match is None:
        return set()
    year, short, month, day = match.groups()
    forms = {f"{first}{then}{last}" for last in ("", short, year) for first, then in ((day, month), (month, day))}
    forms |= {f"{first}{month}{day}" for first in (short, year)} | {f"{month}{short}", f"{month}{year}"}
    return {form.lstrip("0") for form in forms}


def is_one_of(value: float, known: set[str]) -> bool:
    """Whether a whole number is one of these; 471107, 471107.0 and 4.71107E5 are the same."""
    return (
        abs(value) < 1e16
        and value == int(value)
        and abs(value) >= 10 ** (_LEAST_DIGITS - 1)
        and (str(abs(int(value))) in known)
    )


def together(tokens: list[str], known: set[str], version: bool) -> bool:
    """Whether the short numbers of a text, in their order, with "" for each other word, could point at a person.

    version: it may be that of software, 51.80.108.010"""
    is_version = version and all(len(token) <= _LONGEST_IN_VERSION for token in tokens)
    most = _MOST_VERSION_DIGITS if is_version else _MOST_DIGITS
    if len(re.sub(r"[^0-9]", "", "".join(tokens))) > most:
        return True
    runs = [run.split() for run in " ".join(token or "|" for token in tokens).split("|")]
    return any(_tells(run, known, version) for run in runs)


def _tells(run: list[str], known: set[str], version: bool) -> bool:
    if len(run) > 1 and "".join(run).lstrip("0") in known:
        return True
    if version:  # 17.03.48 is no version
        return len(run) > _MOST_TOGETHER and all(map(_TWO_DIGITS.fullmatch, run))
    return len(run) > _MOST_TOGETHER and all(token.isdigit() for token in run)
