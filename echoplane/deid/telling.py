"""Tokens of header text that tell who the patient is, or when: dates, ages, names, and identifiers in pieces.

Tokens are removed even if they are listed words or short numbers. They are split into atoms (runs of letters or of
digits), and windows of atoms are compared with the dates, identifiers and names of the file.
"""

import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from echoplane.deid import numbers, rules
from echoplane.deid.context import Context

_ATOM = re.compile(r"[^\W\d_]+|\d+")
_LETTERS_OF_A_NAME = 3
_LETTERS_OVER_VALUES = 4  # the values of an image type are often single letters
_NUMBER_WORDS = {
    word: str(digit)
    for digit, word in enumerate(("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"))
} | {"FIRST": "1", "SECOND": "2", "THIRD": "3"}
_ORDINAL = frozenset(("ST", "ND", "RD", "TH"))
_MOST_NUMBER_WORDS = 2
_LONGEST_WINDOW = 24
_DIGITS_OF_A_PIECE = 3
_DIGIT = re.compile(r"\d", re.ASCII)
_DEVICE = frozenset(("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "PulseSequenceName"))
VERSIONS = frozenset(("SoftwareVersions", "ManufacturerModelName"))
_OPEN_TERMS = frozenset(("ImageType", "FrameType", "ScanOptions", "TransducerType"))
"""Attributes with coded strings (CS) whose values the standard does not list completely."""
_PLACES = frozenset(
    ("BAY", "BED", "BETT", "BOX", "CCU", "CHAMBRE", "EBENE", "ETAGE", "FLOOR", "HAUS", "ICU", "LAB", "LIT", "RAUM",
     "ROOM", "SAAL", "SALA", "SALLE", "SERVICE", "SITE", "STATION", "SUITE", "UNIT", "WARD", "ZIMMER")
)  # fmt: skip
_TITLES = frozenset(
    ("DOCTEUR", "DOCTOR", "DOTT", "DR", "FRAU", "HERR", "LADY", "MD", "MISS", "MLLE", "MME", "MRS", "NURSE", "PROF",
     "PROFESSOR", "SIR", "SONOGRAPHER", "SRA")
)  # fmt: skip
_NUMBERED_PLACE = re.compile(r"(?:BED|BOX|CCU|ER|ICU|LAB|OP|OR|RM|ROOM|UNIT|WARD)\d{1,3}[A-Z]?", re.ASCII)
_PRIVATE_ADDRESS = re.compile(r"(?<![\d.])(?:192\.168|172\.(?:1[6-9]|2\d|3[01]))\.\d{1,3}\.\d{1,3}(?![\d.])", re.ASCII)
"""Network address of a device (RFC 1918); those from 10.0.0.0 on look like versions."""
_ROMAN = frozenset(("I", "II", "III", "IV", "V", "VI"))
_CUES = frozenset(
    ("BY", "DOCTOR", "DR", "FOR", "FRAU", "HERR", "MISS", "MME", "MRS", "NAME", "PATIENT", "PROF", "PT", "REF", "SIR")
)
_NAMES_AFTER_A_CUE = 3
_BIRTH = frozenset(("BIRTH", "BIRTHDAY", "BORN", "DOB", "GEB", "GEBOREN", "NACIDO", "NACIDA", "NATO", "NATA", "YOB"))
_MEASURES = frozenset(("BMI", "BSA", "GEWICHT", "HEIGHT", "HT", "POIDS", "SIZE", "TAILLE", "WEIGHT", "WT"))
# 93Y, 101YO, F93, 95F, AGE 95: PS3.15 E.3.5 replaces the attribute by 090Y; in free text the age is removed
_AGE_UNIT = frozenset(
    ("A", "AGE", "AGED", "ALTER", "ANNI", "ANOS", "ANS", "AÑOS", "F", "J", "JAAR", "JAHRE", "JR", "LAT", "LET", "M",
     "W", "Y", "YEAR", "YEARS", "YF", "YM", "YO", "YOF", "YOM", "YR", "YRS")
)  # fmt: skip
_OLD, _OLDEST = 90, 130
_SEXES = frozenset(("D", "F", "M", "W", "FEMALE", "MALE", "MAN", "WOMAN"))
_BODY_UNITS = frozenset(("CM", "FT", "KG", "KGS", "KILO", "LB", "LBS", "M2"))
_TECHNICAL_UNITS = frozenset(("HZ", "FPS", "MM", "MS", "DB", "MHZ", "KHZ", "DEG", "DEGREE", "PERCENT", "CM", "BPM"))
# 21/5, 5-24, 21.5., 21 05: a day and its month, even if it is no date of the file
_DAY_AND_MONTH = re.compile(
    r"(?<![A-Za-z0-9.])(\d{1,2})"
    r"(?:\s*[/-]\s*(\d{1,2})(?![A-Za-z0-9])|\.(\d{1,2})\.(?!\d)|[ _](0[1-9]|1[0-2])(?![A-Za-z0-9.]))"
)


class Token(NamedTuple):
    """Run of letters and digits, with its place."""

    text: str
    value: int
    """Index of the value that contains the token."""
    start: int

    @property
    def upper(self) -> str:
        return self.text.upper()


class _Atom(NamedTuple):
    text: str
    """Text in capitals; number words as digits."""
    token: int
    month: bool


def telling_tokens(values: list[str], tokens: list[Token], keyword: str, context: Context, terms: bool) -> set[int]:
    """Returns the positions of tokens that are removed even if they are listed words or short numbers."""
    # terms of the standard such as US and MR are no names, even if a patient has such a name
    names_no_one = terms and keyword not in _OPEN_TERMS
    found = {k for k, t in enumerate(tokens) if not names_no_one and context.own.name_someone(t.text)}
    atoms = _atoms(tokens)
    found |= _own(atoms, keyword, context)
    found |= _spelled(tokens, over_values=terms)
    found |= _ages(tokens, keyword, context)
    found |= _names(tokens, keyword, context)
    found |= _places(values, tokens, keyword) | _titled(tokens)
    found |= {k + 1 for k, token in enumerate(tokens[:-1]) if token.upper in _BIRTH}
    if keyword not in _DEVICE:
        found |= _initials(tokens, names_no_one, context)
    if keyword not in VERSIONS:
        found |= _days(values, tokens, atoms) | _pieces_of_numbers(atoms, context)
    if not context.policy.patient_characteristics and not terms:
        found |= _characteristics(tokens)
    return found


def _atoms(tokens: list[Token]) -> list[_Atom]:
    found = []
    for position, token in enumerate(tokens):
        for part in _ATOM.findall(token.upper):
            month = "" if part.isdigit() or (part in rules.words() and part not in _ROMAN) else numbers.month(part)
            if part not in _ORDINAL:
                found.append(_Atom(_NUMBER_WORDS.get(part, part), position, bool(month)))
    return found


def _own(atoms: list[_Atom], keyword: str, context: Context) -> set[int]:
    """Returns the tokens that together form an identifier, a name or a date of the file, in pieces or spelled out."""
    own = context.own
    found = _windows([(atom.text, atom.token) for atom in atoms], own.joined, least=2)
    apart = [(atom.text, atom.token) for atom in atoms if len(atom.text) == 1 or atom.text not in rules.words()]
    found |= _windows(apart, own.joined, least=2)  # pieces with a clinical word between them
    digits = [(numbers.month(a.text) if a.month else a.text, a.token) for a in atoms if a.month or a.text.isdigit()]
    found |= _windows(digits, own.numbers | own.days, least=2, stripped=True)
    if keyword in VERSIONS:  # 5.21 is a version more often than a day
        return found
    found |= _windows(digits, own.day_forms, least=2)
    return found | {token for text, token in digits if len(text) > 2 and text in own.day_forms | own.joined}


def _initials(tokens: list[Token], names_no_one: bool, context: Context) -> set[int]:
    """Returns the tokens that are the patient's initials: OM, or O M in one value; coded terms are no initials."""
    whole = set() if names_no_one else {k for k, token in enumerate(tokens) if token.upper in context.own.initials}
    for run in _runs(tokens, lambda token: len(token.text) == 1 and token.text.isalpha()):
        for value in {tokens[k].value for k in run}:
            spelled = [k for k in run if tokens[k].value == value]
            if "".join(tokens[k].upper for k in spelled) in context.own.initials:
                whole |= set(spelled)
    return whole


def _pieces_of_numbers(atoms: list[_Atom], context: Context) -> set[int]:
    """Returns the tokens whose digits are a part of an identifier or of the birth date; two digits can be by chance."""
    long = [atom for atom in atoms if atom.text.isdigit() and len(atom.text) >= _DIGITS_OF_A_PIECE]
    return {atom.token for atom in long if any(atom.text in number for number in context.own.numbers)}


def _windows(atoms: list[tuple[str, int]], known: set[str], least: int, stripped: bool = False) -> set[int]:
    """Returns the tokens of every run of at least `least` atoms that, when joined, is one of the known texts."""
    found: set[int] = set()
    longest = max(map(len, known), default=0)
    for first in range(len(atoms)):
        joined = ""
        for last in range(first, min(first + _LONGEST_WINDOW, len(atoms))):
            joined += atoms[last][0]
            if len(joined.lstrip("0") if stripped else joined) > longest:
                break
            if last - first + 1 >= least and (joined.lstrip("0") if stripped else joined) in known:
                found |= {token for _, token in atoms[first : last + 1]}
    return found


def _spelled(tokens: list[Token], over_values: bool) -> set[int]:
    """Returns the tokens of names spelled out (P A U L), and of numbers in words (FOUR ZERO FIVE)."""
    alone = Counter(token.value for token in tokens)
    letters = _runs(
        tokens, lambda t: len(t.text) == 1 and t.text.isalpha() and (not over_values or alone[t.value] == 1)
    )
    least = _LETTERS_OVER_VALUES if over_values else _LETTERS_OF_A_NAME
    words = _runs(tokens, lambda token: token.upper in _NUMBER_WORDS)
    runs = [run for run in letters if len(run) >= least] + [run for run in words if len(run) > _MOST_NUMBER_WORDS]
    return {position for run in runs for position in run}


def _runs(tokens: list[Token], belongs: Callable[[Token], object]) -> list[list[int]]:
    runs: list[list[int]] = [[]]
    for position, token in enumerate(tokens):
        if belongs(token):
            runs[-1].append(position)
        else:
            runs.append([])
    return runs


def _ages(tokens: list[Token], keyword: str, context: Context) -> set[int]:
    """Returns the tokens of possible ages of 90 years or more, with adjacent units; not in device names such as E95."""
    if keyword in _DEVICE:
        return set()
    found = set()
    for k, token in enumerate(tokens):
        parts = _ATOM.findall(token.upper)
        digits = [int(part) for part in parts if part.isdigit() and len(part) < 4]
        words = {part for part in parts if not part.isdigit()}
        beside = {tokens[n].upper for n in (k - 1, k + 1) if 0 <= n < len(tokens)}
        old = len(digits) == 1 and _OLD <= digits[0] < _OLDEST
        if not old or words & _TECHNICAL_UNITS or (not words and beside & _TECHNICAL_UNITS):
            continue
        if words <= _AGE_UNIT and not (words and token.upper in rules.words()):
            found |= {k} | {n for n in (k - 1, k + 1) if 0 <= n < len(tokens) and tokens[n].upper in _AGE_UNIT | _SEXES}
    return found


def _characteristics(tokens: list[Token]) -> set[int]:
    """Returns the tokens of ages, sexes, body sizes and weights."""
    found = set()
    for k, token in enumerate(tokens):
        parts = _ATOM.findall(token.upper)
        words = {part for part in parts if not part.isdigit()}
        following = tokens[k + 1].upper if k + 1 < len(tokens) else ""
        measured = len(words) < len(parts) and bool(words) and words <= _AGE_UNIT | _BODY_UNITS
        named = token.text.isdigit() and (
            following in _AGE_UNIT | _BODY_UNITS or (k and tokens[k - 1].upper in _AGE_UNIT | _MEASURES | _SEXES)
        )
        if token.upper in _SEXES or measured or named:
            found.add(k)
    return found


def _days(values: list[str], tokens: list[Token], atoms: list[_Atom]) -> set[int]:
    """Returns the tokens that have the form of a day and its month, even if it is no date of the file."""
    spans = [
        (index, match.start(), match.end())
        for index, value in enumerate(values)
        for match in _DAY_AND_MONTH.finditer(value)
        if _is_day_and_month(match[1], match[2] or match[3] or match[4])
    ]
    found = {k for k, t in enumerate(tokens) if any(t.value == i and start <= t.start < end for i, start, end in spans)}
    found |= {k for k, t in enumerate(tokens) if _is_four_digit_day(t.text)}
    for before, after in pairwise(atoms):
        if before.month != after.month and (before.text.isdigit() or after.text.isdigit()):
            month = before.text if before.month else after.text
            if month not in _ROMAN:  # leads of an ECG
                found |= {before.token, after.token}
    return found


def _is_day_and_month(first: str, second: str) -> bool:
    """Returns True for day and month such as 21/5 and 05-24, but not for 1/2 or 3-4, which are ratios and ranges."""
    low, high = sorted((int(first), int(second)))
    return len(first + second) > 2 and 1 <= low <= 12 and 1 <= high <= 31


def _is_four_digit_day(text: str) -> bool:
    if not re.fullmatch(r"0\d{3}", text, re.ASCII):
        return False
    return 1 <= int(text[:2]) <= 31 and (1 <= int(text[2:]) <= 31)


def _places(values: list[str], tokens: list[Token], keyword: str) -> set[int]:
    """Returns the tokens that tell where somebody lies or a device stands: ward 6S, unit D27, and in the name and
    version of a device also OR12 and 192.168.77.14."""
    after = {k + 1 for k, token in enumerate(tokens[:-1]) if token.upper in _PLACES}
    found = {k for k in after if _DIGIT.search(tokens[k].text) or len(tokens[k].text) == 1}
    if keyword not in VERSIONS:
        return found
    spans = [(k, m.start(), m.end()) for k, value in enumerate(values) for m in _PRIVATE_ADDRESS.finditer(value)]
    found |= {k for k, t in enumerate(tokens) if any(t.value == v and a <= t.start < b for v, a, b in spans)}
    return found | {k for k, token in enumerate(tokens) if _NUMBERED_PLACE.fullmatch(token.upper)}


def _titled(tokens: list[Token]) -> set[int]:
    """Returns the words after a person's title, also those that are clinical: Dr Plane, Mr Valve."""
    titles = (k for k, token in enumerate(tokens[:-1]) if token.upper in _TITLES or token.text == "Mr")
    return {k + 1 for k in titles if tokens[k + 1].text.isalpha() and tokens[k + 1].upper not in _TITLES}


def _names(tokens: list[Token], keyword: str, context: Context) -> set[int]:
    """Returns the tokens of listed words that are also names, unless their context shows that they are terms.

    After a word that announces a name (a cue such as DR), they are returned in any context.
    """
    found = set()
    cue = -_NAMES_AFTER_A_CUE - 1
    for k, token in enumerate(tokens):
        word = token.upper
        beside = rules.names_among_words().get(word)
        if beside is None or word in context.extra_words:
            cue = k if word in _CUES else cue
            continue
        around = {tokens[n].upper for n in (k - 1, k + 1) if 0 <= n < len(tokens)} | {keyword}
        in_device = "device" in beside and keyword in _DEVICE
        if (beside and not in_device and not around & beside) or k - cue <= _NAMES_AFTER_A_CUE:
            found.add(k)
        cue = k if word in _CUES else cue
    return found
