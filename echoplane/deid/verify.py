"""The last gate: the written file, read again from its bytes, against what the original said of the patient.

It shares no code with the rules that wrote the file, apart from the word list: tokens of the new header, the raw
bytes in several encodings, every UID and date. The pixels are the work of module `reread`.
"""

import re
from io import BytesIO

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import JPEGBaseline8Bit, UID_dictionary

from echoplane.deid import dates, rules, structure
from echoplane.deid.reasons import FileRejected
from echoplane.deid.values import OwnValues, elements

_ISSUED_UID = re.compile(rb"2\.25\.\d{30,39}")
_TOKEN = re.compile(r"[^\W_]+")
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
_TERMS = frozenset(("CS", "UI", "DA", "DT", "TM", "PN"))
_RUN = re.compile(rb"[a-z0-9.]+")
_MAX_DEPTH = 64
_MIN_RAW_BYTES, _MIN_PIXEL_BYTES = 5, 7
_RAMP = bytes(range(256)).lower()
_BULK = tuple(f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue"))


def header(raw: bytes, own: OwnValues, pseudonym: str, shift_days: int, stated: frozenset[str]) -> Dataset:
    """Read the written bytes; FileRejected where the header still says anything of the patient.

    stated: the sentences that de-identification itself has added."""
    if not _ends_with_its_data(raw):
        raise FileRejected("verify-header")
    written = dcmread(BytesIO(raw))
    for text in elements(written):
        if text.vr == "UI":
            if any(uid in own.uids and uid not in UID_dictionary for uid in text.value.strip("\0 ").split("\\")):
                raise FileRejected("verify-header")
        elif text.vr in ("DA", "DT"):
            _check_date(text.value.strip("\0 ")[:8], own, shift_days)
        elif text.vr not in _TERMS and text.value.strip("\0 ") not in stated | {pseudonym}:
            _check_tokens(text.value, own)
    _check_bytes(raw, written, own, stated | {pseudonym})
    return written


def _ends_with_its_data(raw: bytes) -> bool:
    """Whether nothing follows the last element, where no reader would look."""
    meta = structure.read_meta(raw)
    try:
        return structure.check(raw, meta.start, meta.transfer_syntax, _MAX_DEPTH) == len(raw)
    except FileRejected:
        return False


def _check_tokens(value: str, own: OwnValues) -> None:
    tokens = [token.lower() for token in _TOKEN.findall(value)]
    if any(own.name_someone(token) or token in own.other for token in tokens):
        raise FileRejected("verify-header")


def _check_date(value: str, own: OwnValues, shift_days: int) -> None:
    """A date of the original may appear only as another date of it, shifted."""
    if shift_days and value in own.dates and dates.shift_date(value, -shift_days) not in own.dates:
        raise FileRejected("verify-header")


def _check_bytes(raw: bytes, written: Dataset, own: OwnValues, stated: frozenset[str]) -> None:
    pixels = written.get_item("PixelData")
    # not the first such bytes: they may stand in a number before it
    start = pixels.value_tell if isinstance(pixels, RawDataElement) else len(raw)
    head = raw[:start]
    issued = {text.encode() for text in stated} | {moment.encode() for moment in _moments(written)}
    tables = {written[name].value for name in _BULK if name in written}
    for value in issued | tables:
        head = head.replace(value, b"\0")
    head = _ISSUED_UID.sub(b"\0", head).lower()
    if _names_patient(head, own) or any(_spells_patient(table.lower(), own) for table in tables):
        raise FileRejected("verify-header")
    # JPEG frames are taken apart one by one in `reread`
    if pixels is not None and written.file_meta.TransferSyntaxUID != JPEGBaseline8Bit:
        body = raw[start:].lower()
        if any(needle in body for needle in _needles(own.phrases, _MIN_PIXEL_BYTES)):
            raise FileRejected("verify-header")


def _moments(dataset: Dataset) -> set[str]:
    # times stay; an identifier made of the time of day is looked for everywhere else
    return {text.value.strip("\0 ") for text in elements(dataset) if text.vr in ("DA", "DT", "TM") and text.value}


def _needles(texts: set[str], min_bytes: int) -> set[bytes]:
    """The texts as they would be written in any of the encodings that DICOM files carry."""
    found = set()
    for text in texts:
        for encoding in _ENCODINGS if not text.isascii() else ("utf-8", "utf-16-le", "utf-16-be"):
            try:
                needle = text.encode(encoding).lower()
            except UnicodeEncodeError:
                continue
            if len(needle) >= min_bytes:
                found.add(needle)
    return found


def _names_patient(head: bytes, own: OwnValues) -> bool:
    """One search for everything: long values anywhere, short ones and numbers as whole words."""
    known = (
        {token for token in own.names | own.identifiers if token.upper() not in rules.words()} | own.phrases | own.dates
    )
    if any(needle in head for needle in _needles({t for t in known if not t.isdigit()}, _MIN_RAW_BYTES)):
        return True
    short = (
        {t for t in known if t.isdigit() and len(t) > 4}
        | {t for t in own.numbers if len(t) > 5}
        | {t for t in known if 2 < len(t) < _MIN_RAW_BYTES and t.isalpha()}
    )
    found = set(_RUN.findall(head))
    return any(t.encode() in found if t.isascii() else _stands_alone(t.encode(), head) for t in short)


def _spells_patient(table: bytes, own: OwnValues) -> bool:
    """Whether letters stand among the colours of a palette, one in a byte or one in a word; a ramp of greys is none."""
    known = {token.encode() for token in own.names | own.identifiers if len(token) > 3}
    return any(token in table.replace(b"\0", b"") and token not in _RAMP for token in known)


def _stands_alone(word: bytes, head: bytes) -> bool:
    return re.search(rb"(?<![a-z0-9.])" + re.escape(word) + rb"(?![a-z0-9.])", head) is not None
