"""Identifying values of the original file, as collected for the verification.

Apart from the word list, nothing is shared with the modules that write the header: the traversal and the definitions of
a name, a word, a date and a number are independent, so that each may find what the other misses.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from echoplane.deid.rules import words

_CHARACTERISTICS = frozenset((0x00100040, 0x00101010, 0x00101020, 0x00101022, 0x00101030))
_NAMING = frozenset(
    (0x00080050, 0x00080080, 0x00080081, 0x00080092, 0x00080094, 0x00081040, 0x00181000, 0x00181002, 0x00321032,
     0x00380010, 0x00400241, 0x00400242, 0x00402016, 0x00402017, 0x00402008, 0x00402010, 0x00081010)
)  # fmt: skip
"""Attributes outside group 0010 that name a person, a place, a device or an order (PS3.6)."""
_TEXT = frozenset(("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UT"))
_TITLES = frozenset(("PROF", "MED", "PHD", "MRS", "MISS", "SIR", "HERR", "FRAU"))
_WORD = re.compile(r"[^\W\d_]+")
_MIN_WORD, _MIN_ID, _MAX_ID = 3, 5, 64
_DAY = re.compile(r"(?<!\d)(\d{4})[.-]?(\d{2})[.-]?(\d{2})")


@dataclass
class Suspects:
    """Identifying values: words and identifiers in capitals, dates, and unchanged UIDs."""

    words: set[str] = field(default_factory=set)
    """Words of names, places and orders."""
    identifiers: set[str] = field(default_factory=set)
    """Identifiers, reduced to letters and digits."""
    days: set[date] = field(default_factory=set)
    uids: set[str] = field(default_factory=set)

    def __repr__(self) -> str:
        return f"Suspects({len(self.words)} words, {len(self.identifiers)} identifiers, {len(self.days)} days)"


def collect(original: Dataset, kept: frozenset[int]) -> Suspects:
    """Collects the identifying values of the original. kept: attributes that an option of the policy keeps."""
    found = Suspects()
    for element in _all(original):
        values = _values(element)
        if element.VR == "UI":
            found.uids |= set(values)
        elif element.VR in ("DA", "DT"):
            found.days |= {day for value in values for day in _days(value[:8])}
        elif element.VR in _TEXT and _names_someone(element) and int(element.tag) not in kept:
            for value in values:
                _add(found, element, value)
    return found


def _all(dataset: Dataset) -> Iterator[DataElement]:
    pending = [dataset]
    while pending:
        items = pending.pop()
        for tag in list(items.keys()):
            element = items[tag]
            if element.VR == "SQ":
                pending.extend(element.value or ())
            else:
                yield element


def _values(element: DataElement) -> list[str]:
    value = element.value
    if value is None or isinstance(value, bytes):
        return []
    several = (not isinstance(value, str) and hasattr(value, "__iter__") and element.VR != "PN") or element.VM > 1
    return [str(each).strip("\0 ") for each in (value if several else [value])]


def _names_someone(element: DataElement) -> bool:
    tag = int(element.tag)
    patient = tag >> 16 == 0x0010 and tag not in _CHARACTERISTICS
    return element.VR == "PN" or patient or tag in _NAMING


def _add(found: Suspects, element: DataElement, value: str) -> None:
    for word in _WORD.findall(value):
        plain = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode()
        written = {w.upper() for w in (word, plain) if len(w) >= _MIN_WORD and w.upper() not in _TITLES}
        # a person's name may equal a listed term; a department or a station with such a name identifies nobody
        found.words |= written if element.VR == "PN" else written - words()
    joined = re.sub(r"[\W_]", "", value).upper()
    if (
        element.VR != "PN"
        and _MIN_ID <= len(joined.lstrip("0")) <= _MAX_ID
        and re.search(r"\d", joined)
        and not _is_listed(value)
    ):
        found.identifiers.add(joined)


def _is_listed(value: str) -> bool:
    return all(word.upper() in words() for word in re.findall(r"\w+", value))


def _days(text: str) -> Iterator[date]:
    match = _DAY.match(text)
    if match:
        try:
            yield date(int(match[1]), int(match[2]), int(match[3]))
        except ValueError:
            return
