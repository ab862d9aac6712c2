"""Final verification: searches the bytes of the written file for identifying values of the original.

Apart from the word list it shares no code with the modules that write the header: `suspects` reads the original in its
own way, and this module has its own parser of the bytes, and its own recognition of words, dates and ages. The pixels
are verified in module `reread`.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from io import BytesIO

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import JPEGBaseline8Bit, UID_dictionary

from echoplane.deid.enumerated import ENUMERATED
from echoplane.deid.reasons import FileRejected
from echoplane.deid.rules import words
from echoplane.deid.suspects import Suspects

_ISSUED_UID = re.compile(rb"2\.25\.\d{30,39}")
_ENCODINGS = (
    "utf-8",
    "latin-1",
    "utf-16-le",
    "utf-16-be",
    "gb18030",
    "shift_jis",
    "euc_jp",
    "euc_kr",
    "iso8859-5",
    "iso2022_jp",
    "iso2022_kr",
)
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_TEXT = frozenset(("LO", "LT", "SH", "ST", "UC", "UT"))
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA = 0x7FE00010
_META_START = 132
_PATIENT_NAME, _PATIENT_ID, _BIRTH_DATE = 0x00100010, 0x00100020, 0x00100030
_IMAGE_TYPES = frozenset((0x00080008, 0x00089007))
_CODES = frozenset((0x00080100, 0x00080102, 0x00080103, 0x00080119))
_STATED = frozenset((0x00120063, 0x00280303))
"""Attributes that state the method and the handling of dates, added by the de-identification itself."""
_VERSIONS = frozenset((0x00081090, 0x00181020))
_ENUMERATED = frozenset[str]().union(*ENUMERATED.values())
_WORD, _RUN = re.compile(r"[A-Za-z]+"), re.compile(rb"[a-z0-9.]+")
_WHOLE_WORD = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2,}(?![A-Za-z0-9])")
_OLD = re.compile(
    r"(?<![A-Za-z0-9.])(?:9\d|1[0-2]\d)\s?(?:Y|YO|YRS?|YEARS?|YF|YM|JAHRE|ANS)(?![A-Za-z])", re.IGNORECASE
)
_MAX_AGE_YEARS = 90
_PART = r"(?<![\dA-Za-z])(\d{1,2})"
_DAY_AND_MONTH = re.compile(_PART + r"[/_ -](\d{1,2})(?![\dA-Za-z])")
_THREE = re.compile(r"(?<!\d)(\d{1,4})[./_ -](\d{1,2})[./_ -](\d{1,4})(?!\d)")
_COMPACT = re.compile(r"(?<!\d)(\d{2})(\d{2})(\d{2})(\d{2})?(?!\d)")
_MIN_RAW_BYTES, _MIN_PIXEL_BYTES, _MIN_DIGITS = 5, 7, 6
_RAMP = bytes(range(256)).lower()
_BULK = tuple(f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue"))


@dataclass(frozen=True)
class Expected:
    """Values that the written file may hold although no list allows them."""

    pseudonym: str
    shift_days: int
    sentences: frozenset[str]
    """Sentences that the de-identification itself has added."""
    extra_words: frozenset[str]
    """Words that the policy adds to the word list, in capitals."""
    kept: frozenset[int]
    """Attributes that an option of the policy keeps."""


@dataclass(frozen=True)
class _Text:
    tag: int
    vr: str
    value: str


def header(raw: bytes, suspects: Suspects, expected: Expected) -> Dataset:
    """Reads the written bytes. Raises FileRejected if the header still holds an identifying value."""
    try:
        texts = list(_walk(raw))
    except (struct.error, UnicodeDecodeError, IndexError) as error:
        raise FileRejected("verify-header") from error
    for text in texts:
        if _tells(text, suspects, expected):
            raise FileRejected("verify-header")
    written = dcmread(BytesIO(raw))
    _check_bytes(raw, written, texts, suspects, expected)
    return written


def _walk(raw: bytes) -> Iterator[_Text]:
    """Yields the elements of an explicit little endian file, without bulk data.

    Raises struct.error if an element is malformed or ends after the file.
    """
    position = _META_START
    while position < len(raw):
        group, number = struct.unpack_from("<HH", raw, position)
        tag = group << 16 | number
        if tag in (_ITEM, _ITEM_END, _SEQUENCE_END):
            position += 8
            continue
        vr = raw[position + 4 : position + 6]
        long = vr in _LONG
        length = struct.unpack_from("<I" if long else "<H", raw, position + (8 if long else 6))[0]
        start = position + (12 if long else 8)
        if tag == _PIXEL_DATA and length == _UNDEFINED:
            position = _after_fragments(raw, start)
        elif vr == b"SQ":
            position = start
        else:
            position = start + length
            if not vr.isalpha() or position > len(raw):
                raise struct.error("an element ends after the file")
            if not vr.startswith(b"O"):
                yield _Text(tag, vr.decode(), raw[start:position].decode("latin-1").strip("\0 "))


def _after_fragments(raw: bytes, position: int) -> int:
    while True:
        _, number, length = struct.unpack_from("<HHI", raw, position)
        position += 8 + length
        if number == _SEQUENCE_END & 0xFFFF:
            return position


def _tells(text: _Text, suspects: Suspects, expected: Expected) -> bool:
    value = text.value
    if text.tag in (_PATIENT_NAME, _PATIENT_ID):
        return value != expected.pseudonym
    if text.vr == "UI":
        return any(
            uid in suspects.uids and uid not in UID_dictionary and not _is_issued(uid) for uid in value.split("\\")
        )
    if text.vr in ("DA", "DT"):
        return bool(value) and (text.tag == _BIRTH_DATE or _is_real_day(value, suspects, expected))
    if text.vr == "AS":
        return value not in ("", "090Y") and value.endswith("Y") and int(value[:3] or 0) >= _MAX_AGE_YEARS
    if text.vr in ("IS", "DS"):
        return any(_is_identifier(number, suspects) for number in value.split("\\"))
    if text.vr == "CS" and set(value.split("\\")) <= _ENUMERATED:  # terms of the standard: ISO_10918_1 is no id
        return False
    if text.vr not in _TEXT | {"CS"} or text.tag in _STATED or value in expected.sentences or text.tag >> 16 == 2:
        return False
    return _text_tells(text, suspects, expected)


def _is_issued(uid: str) -> bool:
    return _ISSUED_UID.fullmatch(uid.encode("latin-1")) is not None


def _is_real_day(value: str, suspects: Suspects, expected: Expected) -> bool:
    """Returns True for a date of the original that is not also another of its dates, shifted."""
    try:
        day = date(int(value[:4]), int(value[4:6]), int(value[6:8]))
    except ValueError:
        return True
    shifted_from = day - timedelta(days=expected.shift_days)
    return bool(expected.shift_days) and day in suspects.days and shifted_from not in suspects.days


def _is_identifier(number: str, suspects: Suspects) -> bool:
    digits = number.strip().lstrip("+-0").split(".")[0]
    known = {identifier.lstrip("0") for identifier in suspects.identifiers if identifier.isdigit()}
    return (bool(digits) and digits in known) or any(_reads_as(digits, day) for day in suspects.days)


def _reads_as(digits: str, day: date) -> bool:
    return len(digits) >= _MIN_DIGITS and digits in {
        f"{day:{form}}".lstrip("0") for form in ("%Y%m%d", "%d%m%Y", "%m%d%Y", "%y%m%d", "%d%m%y", "%m%d%y")
    }


def _text_tells(text: _Text, suspects: Suspects, expected: Expected) -> bool:
    tokens = {token.upper() for token in _WORD.findall(text.value)}
    if text.tag in _CODES:
        return False
    if text.vr == "CS" and text.tag not in _IMAGE_TYPES:  # US and MR are terms, even if a patient has such a name
        tokens -= words()
    if tokens & suspects.words:
        return True
    if text.tag not in expected.kept:
        whole = {word.upper() for word in _WHOLE_WORD.findall(text.value)}
        if whole - words() - expected.extra_words:
            return True
    joined = re.sub(r"[^A-Za-z0-9]", "", text.value).upper()
    return any(identifier in joined for identifier in suspects.identifiers) or (
        text.tag not in expected.kept and (_OLD.search(text.value) is not None or _shows_day(text, suspects.days))
    )


def _shows_day(text: _Text, days: set[date]) -> bool:
    """Returns True if a text contains a date of the original, in any order, with or without its year."""
    read = [match.groups() for form in (_THREE, _COMPACT) for match in form.finditer(text.value)]
    if any(_is_day([int(part) for part in parts if part], day) for parts in read for day in days):
        return True
    if text.tag in _VERSIONS:  # 5-21 is a version more often than a day
        return False
    pairs = [sorted(map(int, match.groups())) for match in _DAY_AND_MONTH.finditer(text.value)]
    return any(sorted((day.day, day.month)) in pairs for day in days)


def _is_day(parts: list[int], day: date) -> bool:
    if len(parts) == 4:
        candidates = [[parts[0] * 100 + parts[1], *parts[2:]], [*parts[:2], parts[2] * 100 + parts[3]]]
    else:
        candidates = [parts]
    known = [sorted((year, day.month, day.day)) for year in (day.year, day.year % 100)]
    return any(sorted(candidate) in known for candidate in candidates)


def _check_bytes(raw: bytes, written: Dataset, texts: list[_Text], suspects: Suspects, expected: Expected) -> None:
    pixels = written.get_item("PixelData")
    # not the first occurrence of these bytes: they may be part of a number before the element
    start = pixels.value_tell if isinstance(pixels, RawDataElement) else len(raw)
    head = raw[:start]
    # times are kept; an identifier made of the time of day is searched for everywhere else
    moments = {text.value for text in texts if text.vr in ("DA", "DT", "TM") and text.value}
    kept = {text.value for text in texts if text.tag in expected.kept and text.value}
    tables = {written[name].value for name in _BULK if name in written}
    for value in {
        text.encode("latin-1") for text in expected.sentences | {expected.pseudonym} | moments | kept
    } | tables:
        head = head.replace(value, b"\0")
    head = _ISSUED_UID.sub(b"\0", head).lower()
    if _names_patient(head, suspects) or any(_spells_patient(table.lower(), suspects) for table in tables):
        raise FileRejected("verify-header")
    # JPEG frames are parsed one by one in `reread`
    if pixels is not None and written.file_meta.TransferSyntaxUID != JPEGBaseline8Bit:
        body = raw[start:].lower()
        if any(needle in body for needle in _needles(_unlisted(suspects) | suspects.identifiers, _MIN_PIXEL_BYTES)):
            raise FileRejected("verify-header")


def _unlisted(suspects: Suspects) -> set[str]:
    return {word for word in suspects.words if word not in words()}


def _needles(texts: set[str], min_bytes: int) -> set[bytes]:
    """Returns the bytes of the texts in each encoding that DICOM files may use."""
    found = set()
    for text in texts:
        for encoding in _ENCODINGS if not text.isascii() else ("utf-8", "utf-16-le", "utf-16-be"):
            try:
                needle = text.lower().encode(encoding).lower()
            except UnicodeEncodeError:
                continue
            if len(needle) >= min_bytes:
                found.add(needle)
    return found


def _names_patient(head: bytes, suspects: Suspects) -> bool:
    """Returns True if the bytes contain an identifying value: long ones anywhere, short ones and numbers as whole
    words."""
    known = _unlisted(suspects) | suspects.identifiers
    if any(needle in head for needle in _needles({text for text in known if not text.isdigit()}, _MIN_RAW_BYTES)):
        return True
    runs = set(_RUN.findall(head))
    numbers = {text.lstrip("0") for text in known if text.isdigit()}
    whole = {text for text in numbers if len(text) >= _MIN_DIGITS} | {t for t in known if t.isalpha() and t.isascii()}
    return any(text.lower().encode() in runs for text in whole)


def _spells_patient(table: bytes, suspects: Suspects) -> bool:
    """Returns True if the entries of a palette, bytes or words, spell an identifying value; a ramp of greys is none."""
    known = {word.lower().encode() for word in suspects.words | suspects.identifiers if len(word) > 3}
    return any(token in table.replace(b"\0", b"") and token not in _RAMP for token in known)
