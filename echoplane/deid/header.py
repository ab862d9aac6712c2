"""Header of the output, built from the allow list (PS3.15 annex E, PS3.3 modules).

Nothing is deleted from the original. Instead, an empty data set is filled with the elements that the rules allow, with
the same rules at every depth. The result is pure ASCII, so that the new character set is always right. Elements are
built directly as explicit little endian bytes, without parsing or formatting values.
"""

import re
import struct
from collections.abc import Sequence as Values
from dataclasses import replace
from functools import cache

from pydicom.charset import default_encoding
from pydicom.datadict import dictionary_has_tag, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from echoplane.deid import clean_text, codes, dates, numbers, pieces, rules
from echoplane.deid.context import Context
from echoplane.deid.reasons import FileRejected
from echoplane.deid.rules import Allowed
from echoplane.deid.values import OwnValues

_NUMBER = {
    "DS": numbers.DECIMAL,
    "IS": re.compile(r"[+-]?\d{1,5}", re.ASCII),  # numbers of series and images; more digits are an identifier
}
_BINARY_BYTES = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8, "AT": 4, "US or SS": 2}
_CODES = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "AT": ""}  # of module struct
_PARTS_OF_A_DAY = 3
_DIGITS_OF_A_SHORT_DAY, _DIGITS_OF_A_PIECE, _DIGITS_OF_A_CODE = 3, 5, 6
_IMAGE_PIXEL = 0x0028
"""Group of rows, columns and frames, which the pixels confirm."""
_CODE_VALUES = ("CodeValue", "LongCodeValue")
_OF_ITEMS = frozenset((*_CODE_VALUES, "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning"))
"""Attributes of a code (PS3.3 8.8), which stand in items alone; in another place their text is no code."""
_OF_CODES = _OF_ITEMS | {"ContextUID", "MappingResourceUID"}
_CONFIRMED = "NumberOfWaveformSamples"
"""Number that may be long, since a file with fewer samples is rejected, and further ones are cut off."""
_SEX = frozenset("MFO")
_FRACTION = re.compile(r"\.(\d+)", re.ASCII)
# the bytes of these VRs are checked and written together with the pixels and waveforms
_BULK_VRS = frozenset(("OB", "OW", "OB or OW"))
Element = DataElement | RawDataElement


def rebuild(original: Dataset, context: Context, depth: int = 0) -> Dataset:
    """Returns the new data set without pixels: the elements of the allow list, each value checked or emptied.

    Raises FileRejected if sequences are nested too deeply.
    """
    if depth > context.policy.max_depth:
        raise FileRejected("too-deep")
    allowed = rules.allow_list(context.object_class)
    built: dict[BaseTag, Element] = {}
    for item in list(original.values()):
        rule = allowed.get(int(item.tag))
        if depth == 0 and rule is not None and rule.keyword in _OF_ITEMS:
            rule = None
        if rule is None:
            if not (context.policy.safe_private and _copy_private(original, item, built, context)):
                context.note(_public_name(int(item.tag)), "removed")
            continue
        element = _convert(original, item, rule, context, depth)
        if element is not None:
            built[rule.tag] = element
    if depth == 0:
        pieces.remove(built, context)
    return dataset_of(built)


def _copy_private(original: Dataset, item: Element, built: dict[BaseTag, Element], context: Context) -> bool:
    """Adds the element and its private creator if it is a listed private number (PS3.15 E.3.10); returns True if so."""
    group, number = int(item.tag) >> 16, int(item.tag) & 0xFFFF
    if not group & 1 or number < 0x1000:
        return False
    block = BaseTag(group << 16 | number >> 8)
    creator = "".join(strings(original, block)[:1])
    rule = rules.safe_private().get((creator, group, number & 0xFF))
    if rule is None:
        return False
    element = _convert(original, item, replace(rule, tag=BaseTag(item.tag)), context, depth=0)
    if element is None:
        return False
    built[block] = element_of(block, "LO", creator.encode())
    built[BaseTag(item.tag)] = element
    return True


def dataset_of(elements: dict[BaseTag, Element]) -> Dataset:
    """Returns a data set of encoded elements, which pydicom writes unchanged."""
    dataset = Dataset(elements)
    dataset.set_original_encoding(False, True, default_encoding)
    return dataset


def element_of(tag: BaseTag, vr: str, value: bytes) -> RawDataElement:
    """Returns an element with these bytes as its value, padded to an even length (PS3.5 6.2)."""
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    return RawDataElement(tag, vr, len(value), value, 0, False, True)


@cache
def _public_name(tag: int) -> str:
    # a keyword of the standard; a private or unknown tag could be an identifier in itself
    return "(private)" if tag >> 16 & 1 else keyword_for_tag(tag) or "(unknown)"


def _convert(original: Dataset, item: Element, rule: Allowed, context: Context, depth: int) -> Element | None:
    action = rules.action(rule, context.policy)
    if action == "drop":
        context.note(rule.keyword, "removed")
        return None
    if action == "empty":
        context.note(rule.keyword, "emptied")
        return element_of(rule.tag, rule.vr, b"")
    if rule.vr == "SQ":
        return _convert_sequence(original, rule, context, depth)
    if rule.vr in _BULK_VRS:
        return None
    if action == "pseudonym":
        context.note(rule.keyword, "replaced")
        return element_of(rule.tag, rule.vr, context.pseudonym.encode())
    if rule.vr in _BINARY_BYTES:
        return _convert_binary(original, item, rule, context)
    before = _strings(item)
    after = _convert_strings(before, rule, action, context)
    changed = "shifted" if action == "shift" else "mapped" if rule.vr == "UI" else "cleaned"
    context.note(rule.keyword, changed if before != after else "kept" if any(before) else "empty")
    return element_of(rule.tag, rule.vr, "\\".join(after).encode("ascii"))


def strings(dataset: Dataset, tag: int) -> list[str]:
    """Returns the values of a text element from its bytes, without parsing them."""
    item = dataset.get_item(tag)
    return [] if item is None else _strings(item)


def _strings(item: Element) -> list[str]:
    if item.value is None:
        return []
    if isinstance(item, RawDataElement):
        return [part.strip("\0 ") for part in item.value.decode("latin-1").rstrip("\0 ").split("\\")]
    values = item.value if isinstance(item.value, (list, tuple)) or item.VM > 1 else [item.value]
    return [str(value).strip("\0 ") for value in values]


def _convert_sequence(original: Dataset, rule: Allowed, context: Context, depth: int) -> DataElement | None:
    value = original[rule.tag].value
    if not isinstance(value, Sequence):
        context.note(rule.keyword, "removed")
        return None
    items = [rebuild(item, context, depth + 1) for item in value]
    checked = [_without_own_code(item) for item in items]
    kept = [item for item in checked if len(item)]
    context.note(rule.keyword, "kept" if checked == items and len(kept) == len(value) else "cleaned")
    return DataElement(rule.tag, "SQ", Sequence(kept))


def _without_own_code(item: Dataset) -> Dataset:
    """Returns the item, without its code if that is of no listed scheme: empty if it says nothing else."""
    if _is_public_code(item):
        return item
    others = {element.tag: element for element in item.values() if keyword_for_tag(element.tag) not in _OF_CODES}
    return dataset_of(others if any(str(element.VR) != "SQ" for element in others.values()) else {})


def _is_public_code(item: Dataset) -> bool:
    """Returns True if the item is no code, or a code of a listed scheme; a site's own code can identify a person."""
    scheme, present = str(item.get("CodingSchemeDesignator")), [name for name in _CODE_VALUES if name in item]
    values = [str(item.get(name)) for name in present if item.get(name)]
    return not present or (bool(values) and all(codes.is_public_code(scheme, value) for value in values))


def _convert_binary(original: Dataset, item: Element, rule: Allowed, context: Context) -> RawDataElement | None:
    """Returns a binary numeric element unchanged, None if it may hold something else than numbers.

    More numbers than the dictionary allows could be text. Numbers that match identifying values are removed too.
    """
    vr = _number_vr(original, item, rule)
    value = _little_endian(original, item, vr)
    size = _BINARY_BYTES[rule.vr]
    fits = value is not None and len(value) % size == 0 and (rule.most is None or len(value) <= rule.most * size)
    if value is None or not fits or (rule.vr == "AT" and _names_unknown(value)) or _holds_own(value, vr, rule, context):
        context.note(rule.keyword, "removed")
        return None
    context.note(rule.keyword, "kept")
    return element_of(rule.tag, vr, value)


def _number_vr(original: Dataset, item: Element, rule: Allowed) -> str:
    if rule.vr != "US or SS":
        return rule.vr
    if item.VR in ("US", "SS"):
        return str(item.VR)
    return "SS" if original.get("PixelRepresentation") == 1 else "US"


def _little_endian(original: Dataset, item: Element, vr: str) -> bytes | None:
    """Returns the bytes of numbers in little endian order; None if the element does not hold numbers of this VR."""
    if item.VR not in (None, "UN", vr) and not (vr in ("US", "SS") and item.VR == "US or SS"):
        return None
    if isinstance(item, RawDataElement) and item.is_little_endian:
        return item.value or b""
    values = original[item.tag].value
    if values is None:
        return b""
    numbers = list(values) if isinstance(values, Values) or hasattr(values, "__iter__") else [values]
    code = _CODES[vr]
    try:
        if vr == "AT":
            return b"".join(struct.pack("<HH", int(tag) >> 16, int(tag) & 0xFFFF) for tag in numbers)
        return struct.pack(f"<{len(numbers)}{code}", *numbers)
    except struct.error:
        return None


def _names_unknown(value: bytes) -> bool:
    """Returns True if any of these tags is private or unknown: its number could itself be an identifier."""
    tags = struct.iter_unpack("<HH", value)
    return any(group & 1 or not dictionary_has_tag(group << 16 | number) for group, number in tags)


def _holds_own(value: bytes, vr: str, rule: Allowed, context: Context) -> bool:
    """Returns True if a number is or could be an identifier, or if their bytes spell a name of the file."""
    own = context.own
    values = () if rule.vr == "AT" else [number for (number,) in struct.iter_unpack(f"<{_CODES[vr]}", value)]
    may_be_long = rule.keyword == _CONFIRMED
    found = any(own.is_number(number) or (not may_be_long and numbers.could_identify(number)) for number in values)
    spelled = [f"{number:g}" for number in values]
    over_values = numbers.hold_a_day(spelled, own.day_forms) or numbers.in_digits(spelled, own.numbers)
    return found or over_values or own.inside_bytes(value)


def _convert_strings(values: list[str], rule: Allowed, action: str, context: Context) -> list[str]:
    """Returns the new values of an element, judged together if a date or an identifier could be split over them."""
    if rule.keyword in _ONE_BY_ONE or rule.vr not in rules.TEXT_VRS | {"CS", *_NUMBER} or action == "shift":
        return [_convert_string(value, rule, action, context) for value in values]
    if rule.vr in _NUMBER:
        own = context.own
        cut_up = numbers.of_decimals(values) & own.numbers or (len(values) > 1 and numbers.in_digits(values, own.days))
        cut_up = cut_up or (len(values) == _PARTS_OF_A_DAY and "".join(values) in own.day_forms)
        cut_up = cut_up or numbers.hold_a_day(values, own.day_forms)
        return [
            "" if cut_up or _is_short_own(value, rule, own) else _number(value, rule.vr, context) for value in values
        ]
    if action == "keep" and rule.vr != "CS":  # a device or an institution is kept unless it names a person
        return [value if _names_no_one(value, context) else "" for value in values]
    return clean_text.clean(values, rule.keyword, context, terms=rule.vr == "CS")


def _is_short_own(value: str, rule: Allowed, own: OwnValues) -> bool:
    """Returns True for 416 or 1604 if a date of the file is 16 April, and for 4711 or 4711.0 if that is an identifier;
    counts of images have such numbers by chance."""
    if rule.keyword == "InstanceNumber" or rule.tag >> 16 == _IMAGE_PIXEL:
        return False
    if numbers.DECIMAL.fullmatch(value) and numbers.whole(value) in own.short_numbers:
        return True
    return rule.vr == "IS" and len(value) >= _DIGITS_OF_A_SHORT_DAY and value in own.day_forms


def _names_no_one(value: str, context: Context) -> bool:
    own = context.own
    named = clean_text.names_someone(value, context) or own.inside(value)
    told = numbers.of_code(value) & (own.numbers | own.days) or any(
        own.is_number(float(run)) for run in numbers.digits(value)
    )
    told = told or numbers.hold_a_day(numbers.digits(value), own.day_forms)
    return clean_text.PLAIN.fullmatch(value) is not None and not named and not told


def _convert_string(value: str, rule: Allowed, action: str, context: Context) -> str:
    if action == "shift":
        return _shift(value, rule.vr, context)
    if rule.vr == "UI":
        return context.key.uid(value) if value else ""
    if rule.vr == "AS":
        return dates.capped_age(value)
    if rule.keyword == "PatientSex":
        return value if value in _SEX else ""
    if rule.keyword in ("CodeValue", "LongCodeValue"):  # no public scheme has other letters
        return "" if not value.isascii() or _is_own_code(value, context) else value
    return value if rule.keyword == "CodingSchemeDesignator" and value in codes.schemes() else ""


_ONE_BY_ONE = frozenset(("PatientSex", "CodeValue", "LongCodeValue", "CodingSchemeDesignator"))


def _is_own_code(value: str, context: Context) -> bool:
    """Returns True if a code is an identifier, a name or a date of the file; `_is_public_code` checks its scheme."""
    own = context.own
    named = any(part.isalpha() and part.lower() in own.names for part in re.split(r"[^A-Za-z]+", value) if part[1:])
    # in T-16040 or 16041-2 the form of the code proves nothing; codes of digits alone have a check digit or a table
    short = "" if value.isdigit() else re.sub(r"\D", "", value)
    holds_day = len(short) <= _DIGITS_OF_A_CODE and any(len(form) == 4 and form in short for form in own.day_forms)
    part_of_id = len(short) >= _DIGITS_OF_A_PIECE and any(short in number for number in own.numbers)
    return named or holds_day or part_of_id or bool(numbers.of_code(value) & (own.numbers | own.days))


def _shift(value: str, vr: str, context: Context) -> str:
    days = context.shift_days
    if vr != "TM" and not dates.of_an_examination(value):
        return ""
    if vr == "DA":
        return dates.shift_date(value, days)
    moved = dates.shift_datetime(value, days) if vr == "DT" else dates.valid_time(value)
    told = re.sub(r"[^0-9]", "", moved).lstrip("0")
    if vr == "TM" and len(told) > _DIGITS_OF_A_PIECE and told in context.own.numbers:
        return ""
    # an identifier as fraction of a second does not come from a clock
    return _FRACTION.sub(lambda part: "" if context.own.is_number(int(part[1])) else part[0], moved)


def _number(text: str, vr: str, context: Context) -> str:
    """Returns a DS or IS; empty if invalid, if it matches an identifying value, or if it is as long as a telephone
    number."""
    text = numbers.of_sixteen(text) if vr == "DS" else text
    if not text:
        return ""
    if len(text) > numbers.MAX_CHARACTERS or not _NUMBER[vr].fullmatch(text):
        return ""
    number, own = float(text), context.own
    told = own.is_number(number) or numbers.could_identify(number) or numbers.of_decimals([text]) & own.numbers
    with_last_zeros = numbers.in_digits([text], own.days)
    return "" if told or with_last_zeros or (vr == "IS" and text in own.day_forms and text[0] == "0") else text
