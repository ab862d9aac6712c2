"""Identifying values of the original file, which the kept header must not contain.

A name is searched for even if it is a word of the word list (a patient called Long). Identifiers, places and other
people come from attributes that name someone. Tokens are in lower case.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from echoplane.deid import numbers, rules
from echoplane.deid.key import Key
from echoplane.deid.policy import Policy

_TEXT = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UN", "UR", "UT"))
_WRITTEN = _TEXT | {"UI", "DA", "DT", "TM"}
_LONG_TEXT = rules.TEXT_VRS | {"AE", "UR"}
_NAMES_SOMEONE = ("ID", "Name", "Institution", "Physician", "Address", "Operator", "Telephone", "Telecom", "Number")
_NAMES_A_THING = frozenset(
    ("ManufacturerModelName", "ProtocolName", "PulseSequenceName", "ReceiveCoilName", "SequenceName", "StageName",
     "ViewName")
)  # fmt: skip
_MAX_UNKNOWN_BYTES = 65536
_PATIENT_NAME, _BIRTH_DATE = 0x00100010, 0x00100030
_CODES = frozenset((0x00080100, 0x00080102, 0x00080103, 0x00080119, 0x00080120))
"""Code values, their schemes and versions: public terms do not identify anybody, and other codes are removed anyway."""
_TITLES = frozenset(("dr", "ii", "iv", "jr", "md", "mr", "ms", "ph", "pr", "ra", "sr", "vi"))
_SHORTEST_JOINED = 4
_LONG_TOKEN = 4
_WORD = re.compile(r"\w+")
_DATE = re.compile(r"(?<!\d)(?:1[89]|20)\d{6}(?!\d{2})|(?<!\d)(?:1[89]|20)\d{6}(?=\d{4})")


@dataclass
class OwnValues:
    """Identifying tokens of the original."""

    names: set[str] = field(default_factory=set)
    identifiers: set[str] = field(default_factory=set)
    numbers: set[str] = field(default_factory=set)
    """Digits of the identifiers and of the birth date, without leading zeros."""
    short_numbers: set[str] = field(default_factory=set)
    """Identifiers with four digits."""
    days: set[str] = field(default_factory=set)
    """Digits of every date with its year, without leading zeros."""
    day_forms: set[str] = field(default_factory=set)
    """Spellings of every date of the file in digits, in any order, also without its year or day."""
    joined: set[str] = field(default_factory=set)
    """Identifiers and names without separators, in capitals."""
    initials: set[str] = field(default_factory=set)
    """Initials of the patient, in capitals: with one given name or all, the family name first or last."""

    def __repr__(self) -> str:
        return f"OwnValues({len(self.names)} names, {len(self.identifiers)} identifiers)"

    def name_someone(self, token: str) -> bool:
        """Returns True if a token of kept text is a name or identifier of a person or place of the file."""
        token = token.lower()
        return token in self.names or (token in self.identifiers and not _listed(token))

    def inside(self, value: str, longer_than: int = _LONG_TOKEN) -> bool:
        """Returns True if a value contains a name or identifier as a part, such as zwetschgenrosali."""
        value = value.lower()
        return any(len(token) > longer_than and token in value for token in self.names | self.identifiers)

    def inside_bytes(self, value: bytes) -> bool:
        """Returns True if the bytes of numbers contain a name or identifier, in letters of one or of two bytes."""
        return self.inside(value.decode("latin-1"), 3) or self.inside(value.replace(b"\0", b"").decode("latin-1"), 3)

    def is_number(self, value: float) -> bool:
        """Returns True if a number is an identifier or a date of the file, in any spelling."""
        return numbers.is_one_of(value, self.numbers | self.days)


def _listed(token: str) -> bool:
    return token.upper() in rules.words()


class Text(NamedTuple):
    """Element as text: `value` decoded with the file's character set, `raw` the bytes in the file."""

    tag: int
    vr: str
    value: str
    raw: bytes


def elements(dataset: Dataset) -> Iterator[Text]:
    """Yields every element that may hold text, at every depth, public or private."""
    for item in list(dataset.values()):
        vr = _vr(item)
        if vr == "SQ" or isinstance(item.value, Sequence):
            for nested in dataset[item.tag].value or ():
                yield from elements(nested)
        elif vr in _WRITTEN:
            yield _text(dataset, item, vr)


def _vr(item: DataElement | RawDataElement) -> str:
    """Returns the VR of the standard if it is one of text, else that of the file: a name stored as UN is a name."""
    known = _dictionary_vr(int(item.tag))
    return known if known in _WRITTEN - {"UN"} else str(item.VR or known)


def _text(dataset: Dataset, item: DataElement | RawDataElement, vr: str) -> Text:
    tag = int(item.tag)
    raw = item.value if isinstance(item, RawDataElement) else str(item.value).encode("utf-8", "replace")
    raw = raw or b""
    if vr == "UN" or raw.isascii():
        return Text(tag, vr, raw[:_MAX_UNKNOWN_BYTES].decode("latin-1"), raw)
    value = dataset[item.tag].value
    return Text(tag, vr, "\\".join(map(str, value)) if isinstance(value, list) else str(value), raw)


@cache
def _dictionary_vr(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


def collect(dataset: Dataset, key: Key, policy: Policy) -> OwnValues:
    """Collects the values of the original that must not be in the output, except those that the key issued."""
    retained = rules.retained(policy)
    own = OwnValues()
    for text in elements(dataset):
        value = text.value.strip("\0 ")
        if text.vr in ("DA", "DT"):
            found = set(_DATE.findall(value.replace(".", "")))
            own.days |= {form for day in found for form in numbers.of_day(day)}
            own.day_forms |= {form for day in found for form in numbers.forms_of_day(day)}
            if text.tag == _BIRTH_DATE:
                own.numbers |= numbers.of_birth_date(value)
        elif text.vr not in ("TM", "UI") and text.tag not in retained | _CODES and not key.issued_pseudonym(value):
            _note_text(own, text, value)
    return own


def _note_text(own: OwnValues, text: Text, value: str) -> None:
    tokens = {token.lower() for token in _WORD.findall(value.replace("_", " "))}
    if text.vr == "PN":
        own.initials |= _initials(value) if text.tag == _PATIENT_NAME else set()
        own.names |= {token for token in tokens if len(token) > 1 and token not in _TITLES}
        own.joined |= {token.upper() for token in own.names}
    elif _is_identity(text.tag):
        own.joined |= {joined for part in value.split("\\") if (joined := _joined_identifier(part))}
        own.identifiers |= {token for token in tokens if len(token) > 2}
        own.numbers |= {number for part in value.split("\\") for number in numbers.of_identifier(part)}
        own.short_numbers |= {number for part in value.split("\\") for number in numbers.of_short_identifier(part)}


def _initials(value: str) -> set[str]:
    found = set()
    for name in value.upper().split("="):
        family, given = ([part[0] for part in _WORD.findall(each)] for each in (*name.split("^"), "")[:2])
        for first in (family[:1], family):
            for last in (given[:1], given):
                found |= {"".join(first + last), "".join(last + first)}
    return {letters for letters in found if len(letters) > 1}


def _joined_identifier(part: str) -> str:
    """Returns A1B2C3 for A1-B2-C3; empty if there is no digit, or if it is too short to differ from a count."""
    joined = re.sub(r"[\W_]", "", part).upper()
    return joined if len(joined) >= _SHORTEST_JOINED and any(map(str.isdigit, joined)) else ""


@cache
def _is_identity(tag: int) -> bool:
    keyword = keyword_for_tag(tag)
    if not keyword or keyword in _NAMES_A_THING or dictionary_VR(tag) not in _LONG_TEXT:
        return False
    return any(word in keyword for word in _NAMES_SOMEONE)
