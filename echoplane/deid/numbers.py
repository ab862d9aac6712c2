"""Numbers that identify a person in any spelling, such as a record number without its zeros, or a date in three parts.

Short numbers may be kept in free text (25 fps, 3 of 4). Several of them together can be a date of birth, a telephone
number, or a record number with spaces in it.
"""

import re
from datetime import date
from functools import cache
from itertools import permutations, product
from math import isfinite

_LEAST_DIGITS = 5
"""Minimum number of digits of an identifier; shorter ones are too common as counts and sizes."""
_SHORT_DIGITS = 4
_YEAR_DIGITS = 4
_MOST_DIGITS, _MOST_VERSION_DIGITS = 5, 12
_LONGEST_IN_VERSION = 3
_MOST_TOGETHER = 2
_SIX_DIGITS, _LARGEST_COUNT = 100_000, 10_000_000
MAX_CHARACTERS = 16
"""Maximum length of a DS (PS3.5 6.2)."""
DECIMAL = re.compile(r"[+-]?(?=\.?\d)\d*\.?\d*(?:[Ee][+-]?\d{1,3})?", re.ASCII)
_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
_MONTHS = (
    ("JAN", "ENE", "GEN", "STY", "OCA", "TAM"), ("FEB", "FEV", "FÉV", "LUT", "SUB", "HEL"),
    ("MAR", "MRZ", "MÄR", "MRT", "MAALIS"), ("APR", "AVR", "ABR", "KWI", "NIS", "HUH"),
    ("MAY", "MAI", "MAG", "MEI", "MAJ", "TOUKO"), ("JUN", "JUIN", "GIU", "CZE", "HAZ", "KES"),
    ("JUL", "JUIL", "LUG", "LIP", "TEM", "HEI"), ("AUG", "AOU", "AOÛ", "AGO", "SIE", "ELO"),
    ("SEP", "SET", "WRZ", "EYL", "SYY"), ("OCT", "OKT", "OTT", "OUT", "PAZ", "EKI", "LOK"),
    ("NOV", "LIS", "KAS"), ("DEC", "DEZ", "DÉC", "DIC", "GRU", "ARA", "JOU"),
)  # fmt: skip
"""First letters of the months in English, German, French, Spanish, Italian, Portuguese, Dutch, Polish, Turkish and
Finnish. Months in other languages are removed as unlisted words, so that only the number remains."""
# days of Python and C#, of spreadsheets, of Unix, and the Julian day, also modified and truncated
_FIRST_DAYS = (0, date(1899, 12, 30).toordinal(), date(1970, 1, 1).toordinal(), -1721425, 678576, 718576)
_WORD_OR_NUMBER = re.compile(r"[A-Za-z]+|[0-9]+")
_TWO_DIGITS = re.compile(r"\d\d", re.ASCII)


def of_identifier(text: str) -> set[str]:
    """Returns the digits of an identifier, without separators and leading zeros; empty if there are too few."""
    digits = re.sub(r"[^0-9]", "", text).lstrip("0")
    return {digits} if len(digits) >= _LEAST_DIGITS else set()


def of_short_identifier(text: str) -> set[str]:
    """Returns the number of an identifier with four digits, such as 4711 of MR4711 and 815 of 0815; empty if it is
    another."""
    digits = re.sub(r"[^0-9]", "", text)
    return {digits.lstrip("0")} - {""} if len(digits) == _SHORT_DIGITS else set()


def whole(text: str) -> str:
    """Returns the digits before the point of a decimal number, without sign and leading zeros; empty if it is too
    large."""
    number = abs(float(text))
    return f"{int(number)}" if isfinite(number) else ""


def digits(text: str) -> list[str]:
    """Returns the runs of digits in a text."""
    return re.findall(r"[0-9]+", text)


def hold_a_day(values: list[str], forms: set[str]) -> bool:
    """Returns True if three numbers after one another are day, month and year, the year in four digits, in any order;
    `forms` are those of `forms_of_day`. Two digits of a year would match counts by chance."""
    triples = zip(values, values[1:], values[2:], strict=False)
    return any("".join(parts) in forms for parts in triples if max(map(len, parts)) == _YEAR_DIGITS)


def of_decimals(values: list[str]) -> set[str]:
    """Returns the digits of joined DS or IS values as for an identifier, without exponents.

    The digits are returned with and without trailing zeros.
    """
    digits = of_identifier("".join(re.split("[Ee]", value)[0] for value in values))
    return digits | {short for number in digits if len(short := number.rstrip("0")) >= _LEAST_DIGITS}


def of_code(text: str) -> set[str]:
    """Returns the digits of a code as for an identifier, with named months as digits: 17.MAR.2024, 17MAR2024."""
    return of_identifier("".join(with_months(_WORD_OR_NUMBER.findall(text))))


def of_birth_date(text: str) -> set[str]:
    """Returns the usual spellings of a DA in digits, whole or in part, without leading zeros."""
    return {form.lstrip("0") for form in forms_of_day(text) if len(form) > 2}


def of_day(text: str) -> set[str]:
    """Returns the spellings of a DA in digits with its year, in any order, without leading zeros, and its counts."""
    return {form for form in of_birth_date(text) if len(form) >= _LEAST_DIGITS} | _counts_of_day(text)


def _counts_of_day(text: str) -> set[str]:
    """Returns the number of a DA in its year, after the year, and in the usual counts of days."""
    try:
        day = date.fromisoformat(text.replace(".", ""))
    except ValueError:
        return set()
    counts = {str(day.toordinal() - first) for first in _FIRST_DAYS}
    return counts | {f"{day:%Y%j}", f"{day:%y%j}".lstrip("0")}


@cache
def forms_of_day(text: str) -> frozenset[str]:
    """Returns all spellings of a DA in digits: in any order, with or without its year, with and without leading zeros.

    Each is at least a day with its month or a month with its year."""
    match = re.fullmatch(r"(\d\d(\d\d))(\d\d)(\d\d)", text.replace(".", ""), re.ASCII)
    if match is None:
        return frozenset()
    years, months, days = match.group(1, 2), _with_and_without_zero(match[3]), _with_and_without_zero(match[4])
    parts = [*product(months, days), *product(years, months), *product(years, months, days)]
    return frozenset("".join(order) for part in parts for order in permutations(part))


def _with_and_without_zero(two_digits: str) -> tuple[str, str]:
    return two_digits, str(int(two_digits))


def of_sixteen(text: str) -> str:
    """Rounds a decimal number that is longer than the 16 characters of a DS to as many digits as fit."""
    if len(text) <= MAX_CHARACTERS or not DECIMAL.fullmatch(text):
        return text
    rounded = (f"{float(text):.{digits}g}" for digits in range(MAX_CHARACTERS, 0, -1))
    return next(shorter for shorter in rounded if len(shorter) <= MAX_CHARACTERS)


def with_months(tokens: list[str]) -> list[str]:
    """Returns the tokens of a text, with each month between two numbers as digits: 17 MAR 48, 17.III.48."""
    found = list(tokens)
    for k in range(1, len(tokens) - 1):
        digits = month(tokens[k].upper())
        if digits and tokens[k - 1].isdigit() and tokens[k + 1].isdigit():
            found[k] = digits
    return found


def month(word: str) -> str:
    """Returns a month as two digits, from its Roman number or the first letters of its name; empty if it is none."""
    if word in _ROMAN:
        return f"{_ROMAN.index(word) + 1:02d}"
    return next((f"{n:02d}" for n, names in enumerate(_MONTHS, 1) if word.startswith(names)), "")


def is_one_of(value: float, known: set[str]) -> bool:
    """Returns True if a number is one of `known`; 471107, 471107.0, 471107.5, 4.71107E5 and 4.71107 are the same."""
    if not 0 < abs(value) < 1e16:
        return False
    whole = str(abs(int(value)))
    return (len(whole) >= _LEAST_DIGITS and whole in known) or in_digits([f"{value:.10g}"], known)


def in_digits(values: list[str], known: set[str]) -> bool:
    """Returns True if the joined digits of decimal numbers are one of `known`; five digits can match by chance."""
    return any(len(digits) > _LEAST_DIGITS for digits in of_decimals(values) & known)


def could_identify(value: float) -> bool:
    """Returns True if the whole part of a number is as long as a record number, and longer than a count or length.

    These are ten million and more, and more than five digits without the zeros at their end: 4711077, but not the
    2500000 Hz of a transducer."""
    size = abs(value)
    long = size >= _SIX_DIGITS and len(f"{int(size):d}".rstrip("0")) > _MOST_DIGITS if isfinite(size) else True
    return long or size >= _LARGEST_COUNT


def together(tokens: list[str], known: set[str], version: bool) -> bool:
    """Returns True if the short numbers of a text could together identify a person.

    tokens: the numbers in their order, with "" for each other word. version: the text may be a software version, such
    as 51.80.108.010."""
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
