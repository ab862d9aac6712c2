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
MOST_CHARACTERS = 16
"""of a DS (PS3.5 6.2)"""
DECIMAL = re.compile(r"[+-]?(?=[\d.])\d*\.?\d*(?:[Ee][+-]?\d{1,3})?", re.ASCII)
_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
_MONTHS = (
    ("JAN", "ENE", "GEN"), ("FEB", "FEV", "FÉV"), ("MAR", "MRZ", "MÄR"), ("APR", "AVR", "ABR"), ("MAY", "MAI", "MAG"),
    ("JUN", "JUIN", "GIU"), ("JUL", "JUIL", "LUG"), ("AUG", "AOU", "AOÛ", "AGO"), ("SEP", "SET"), ("OCT", "OKT", "OTT"),
    ("NOV",), ("DEC", "DEZ", "DÉC", "DIC"),
)  # fmt: skip
"""In English, German, French, Spanish and Italian."""
_WORD_OR_NUMBER = re.compile(r"[A-Za-z]+|[0-9]+")
_TWO_DIGITS = re.compile(r"\d\d", re.ASCII)


def of_identifier(text: str) -> set[str]:
    """The digits of an identifier, without what parts them and without leading zeros; none if there are few."""
    digits = re.sub(r"[^0-9]", "", text).lstrip("0")
    return {digits} if len(digits) >= _LEAST_DIGITS else set()


def of_decimals(values: list[str]) -> set[str]:
    """The same of the values of a DS or IS one after the other: no power of ten, with zeros at the end and without."""
    digits = of_identifier("".join(re.split("[Ee]", value)[0] for value in values))
    return digits | {short for number in digits if len(short := number.rstrip("0")) >= _LEAST_DIGITS}


def of_code(text: str) -> set[str]:
    """The same of a code, in which a month can have a name: 17.MAR.2024, 17MAR2024."""
    return of_identifier("".join(with_months(_WORD_OR_NUMBER.findall(text))))


def of_birth_date(text: str) -> set[str]:
    """A DA as people write it in digits, whole or in part, without leading zeros."""
    match = re.fullmatch(r"(\d\d(\d\d))(\d\d)(\d\d)", text.replace(".", ""), re.ASCII)
    if match is None:
        return set()
    year, short, month, day = match.groups()
    return _written(year, short, month, day) | _written(year, short, str(int(month)), str(int(day)))


def of_day(text: str) -> set[str]:
    """A DA in digits with its year, in any order, without leading zeros."""
    return {form for form in of_birth_date(text) if len(form) >= _LEAST_DIGITS}


def _written(year: str, short: str, month: str, day: str) -> set[str]:
    forms = {f"{first}{then}{last}" for last in ("", short, year) for first, then in ((day, month), (month, day))}
    forms |= {f"{first}{month}{day}" for first in (short, year)} | {f"{month}{short}", f"{month}{year}"}
    return {form.lstrip("0") for form in forms}


def of_sixteen(text: str) -> str:
    """A decimal number of more than the 16 characters that a DS may have, with as many digits as fit."""
    if len(text) <= MOST_CHARACTERS or not DECIMAL.fullmatch(text):
        return text
    rounded = (f"{float(text):.{digits}g}" for digits in range(MOST_CHARACTERS, 0, -1))
    return next(shorter for shorter in rounded if len(shorter) <= MOST_CHARACTERS)


def with_months(tokens: list[str]) -> list[str]:
    """The tokens of a text, with each month between two numbers in digits: 17 MAR 48, 17.III.48."""
    found = list(tokens)
    for k in range(1, len(tokens) - 1):
        month = _month(tokens[k].upper())
        if month and tokens[k - 1].isdigit() and tokens[k + 1].isdigit():
            found[k] = month
    return found


def _month(word: str) -> str:
    """A month's two digits, from its Roman number or the first letters of its name; empty where it is none."""
    if word in _ROMAN:
        return f"{_ROMAN.index(word) + 1:02d}"
    return next((f"{n:02d}" for n, names in enumerate(_MONTHS, 1) if word.startswith(names)), "")


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
