"""The header of the output, built anew from the allow list (PS3.15 annex E, PS3.3 modules).

Nothing is deleted from the original: an empty data set is filled with what the rules let through, by the same
rules at every depth. What remains is pure ASCII, so that the new character set is always right. Elements are built
as the bytes that they will be, explicit little endian, so nothing is parsed or formatted on the way.
"""

import re
import struct
from collections import Counter
from collections.abc import Sequence as Values
from dataclasses import dataclass, field, replace
from functools import cache

from pydicom.charset import default_encoding
from pydicom.datadict import dictionary_has_tag, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from echoplane.deid import dates, numbers, rules
from echoplane.deid.key import Key
from echoplane.deid.policy import Policy
from echoplane.deid.reasons import Held
from echoplane.deid.rules import Allowed
from echoplane.deid.values import OwnValues

_PLAIN = re.compile(r"[A-Za-z0-9 _.,/+:;()\[\]{}%*^'-]*")
_TOKEN = re.compile(r"[^\W_]+")
_LETTERS, _DIGIT = re.compile(r"[A-Za-z]+"), re.compile(r"\d", re.ASCII)
_CODE_VALUE = re.compile(r"[A-Za-z0-9.:\-_\[\]{}/%*']{1,16}")
_NUMBER = {
    "DS": numbers.DECIMAL,
    "IS": re.compile(r"[+-]?\d{1,10}", re.ASCII),
}
_BINARY_BYTES = {"US": 2, "SS": 2, "UL": 4, "SL": 4, "FL": 4, "FD": 8, "AT": 4, "US or SS": 2}
_CODES = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "AT": ""}  # of module struct
_SEX = frozenset("MFO")
_VERSIONS = frozenset(("SoftwareVersions", "ManufacturerModelName"))
_ESCAPE = "\x1b"  # begins another character set (ISO 2022), in which letters are pairs of ASCII
_LEAST_LETTERS = 4
_MOST_LETTERS = 3  # that stand alone in a term; more can be the beginning of a name
_FRACTION = re.compile(r"\.(\d+)", re.ASCII)
# their bytes are checked and written with the pixels and the signal
_BULK_VRS = frozenset(("OB", "OW", "OB or OW"))
Element = DataElement | RawDataElement


@dataclass
class Context:
    """What a value is judged by: the rules of its class, the key, the policy, and the patient's own values."""

    object_class: str
    key: Key
    policy: Policy
    own: OwnValues
    pseudonym: str
    shift_days: int
    actions: Counter[str] = field(default_factory=Counter)
    extra_words: frozenset[str] = frozenset()

    def note(self, keyword: str, action: str) -> None:
        self.actions[f"{keyword} {action}"] += 1


def rebuild(original: Dataset, context: Context, depth: int = 0) -> Dataset:
    """The new data set without pixels: what the allow list names, each value proven or emptied."""
    if depth > context.policy.max_depth:
        raise Held("too-deep")
    allowed = rules.allow_list(context.object_class)
    built: dict[BaseTag, Element] = {}
    for item in list(original.values()):
        rule = allowed.get(int(item.tag))
        if rule is None:
            if not (context.policy.safe_private and _copy_private(original, item, built, context)):
                context.note(_public_name(int(item.tag)), "removed")
            continue
        element = _convert(original, item, rule, context, depth)
        if element is not None:
            built[rule.tag] = element
    return dataset_of(built)


def _copy_private(original: Dataset, item: Element, built: dict[BaseTag, Element], context: Context) -> bool:
    """Add a listed private number with its creator, if it is one (PS3.15 E.3.10); whether it was."""
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
    """A data set of finished elements, which the writer takes as they are."""
    dataset = Dataset(elements)
    dataset.set_original_encoding(False, True, default_encoding)
    return dataset


def element_of(tag: BaseTag, vr: str, value: bytes) -> RawDataElement:
    """An element of these bytes, padded to an even length (PS3.5 6.2)."""
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
    cut_up = rule.vr in _NUMBER and numbers.of_decimals(before) & context.own.numbers
    after = ["" if cut_up else _convert_string(value, rule, action, context) for value in before]
    changed = "shifted" if action == "shift" else "mapped" if rule.vr == "UI" else "cleaned"
    context.note(rule.keyword, changed if before != after else "kept" if any(before) else "empty")
    return element_of(rule.tag, rule.vr, "\\".join(after).encode("ascii"))


def strings(dataset: Dataset, tag: int) -> list[str]:
    """The values of a text element, from its bytes: nothing is parsed on the way."""
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
    kept = [item for item in items if len(item) and _is_public_code(item)]
    context.note(rule.keyword, "kept" if len(kept) == len(value) else "cleaned")
    return DataElement(rule.tag, "SQ", Sequence(kept))


def _is_public_code(item: Dataset) -> bool:
    """An item that is no code, or a code of a listed scheme; a site's own code can be a person."""
    if "CodeValue" not in item and "LongCodeValue" not in item:
        return True
    form = rules.coding_schemes().get(str(item.get("CodingSchemeDesignator")))
    return form is not None and form.fullmatch(str(item.get("CodeValue"))) is not None


def _convert_binary(original: Dataset, item: Element, rule: Allowed, context: Context) -> RawDataElement | None:
    """Numbers as they are, if there are no more of them than the dictionary allows; a longer value could be text."""
    vr = _number_vr(original, item, rule)
    value = _little_endian(original, item, vr)
    size = _BINARY_BYTES[rule.vr]
    fits = value is not None and len(value) % size == 0 and (rule.most is None or len(value) <= rule.most * size)
    if value is None or not fits or (rule.vr == "AT" and _names_unknown(value)) or _holds_own(value, vr, context):
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
    """The bytes of numbers in the order in which they will be written; None where they are no such numbers."""
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
    """Whether any of these tags is private or of no standard: its number could be an identifier in itself."""
    tags = struct.iter_unpack("<HH", value)
    return any(group & 1 or not dictionary_has_tag(group << 16 | number) for group, number in tags)


def _holds_own(value: bytes, vr: str, context: Context) -> bool:
    """Whether numbers are the patient's name in letters, or an identifier."""
    own = context.own
    found = vr != "AT" and any(own.is_number(number) for (number,) in struct.iter_unpack(f"<{_CODES[vr]}", value))
    return found or own.inside_bytes(value)


def _convert_string(value: str, rule: Allowed, action: str, context: Context) -> str:
    if action == "shift":
        return _shift(value, rule.vr, context)
    if rule.vr == "UI":
        return context.key.uid(value) if value else ""
    if rule.vr in _NUMBER:
        value = numbers.of_sixteen(value) if rule.vr == "DS" else value
        return value if _is_number(value, rule.vr, context) else ""
    if rule.vr == "AS":
        return dates.capped_age(value)
    if rule.keyword == "CodeValue":
        fits = _CODE_VALUE.fullmatch(value) and not _names_someone(value, context)
        told = numbers.of_code(value)
        own = context.own.inside(value, 2) or told & (context.own.numbers | context.own.days)
        return value if fits and not own else ""
    if rule.keyword == "PatientSex":
        return value if value in _SEX else ""
    if rule.vr == "CS":
        return value if _is_known_term(value, context) else ""
    if action == "keep":  # identity of a device or an institution: as it is, unless it names a person
        named = _names_someone(value, context) or context.own.inside(value)
        return value if _PLAIN.fullmatch(value) and not named else ""
    return clean_text(value, context, version=rule.keyword in _VERSIONS)


def _shift(value: str, vr: str, context: Context) -> str:
    days = context.shift_days
    if vr != "TM" and not dates.of_an_examination(value):
        return ""
    if vr == "DA":
        return dates.shift_date(value, days)
    moved = dates.shift_datetime(value, days) if vr == "DT" else dates.valid_time(value)
    # no clock gives an identifier as its fraction of a second
    return _FRACTION.sub(lambda part: "" if context.own.is_number(int(part[1])) else part[0], moved)


def _is_number(value: str, vr: str, context: Context) -> bool:
    if value and (len(value) > numbers.MOST_CHARACTERS or not _NUMBER[vr].fullmatch(value)):
        return False
    own = context.own
    told = value and (own.is_number(float(value)) or numbers.of_decimals([value]) & own.numbers)
    return not told


def _is_known_term(value: str, context: Context) -> bool:
    """A CS of which every token is on the word list: coded strings are terms, but files put names there."""
    tokens = _TOKEN.findall(value)
    spelled = "".join(token for token in tokens if len(token) == 1)
    return (
        len(value) <= 16
        and value.isascii()
        and _ESCAPE not in value
        and all(_listed(token, context) or len(token) == 1 or _is_short_number(token, context) for token in tokens)
        and len(spelled) <= _MOST_LETTERS
        and not context.own.inside(spelled, 2)
        and not numbers.together(_loose_numbers(tokens, context), context.own.numbers, version=False)
    )


def _is_short_number(token: str, context: Context) -> bool:
    names = any(context.own.name_someone(part) for part in (token, *_LETTERS.findall(token)))
    return rules.short_number(token) and not names


def _loose_numbers(tokens: list[str], context: Context) -> list[str]:
    """The numbers among the tokens, also those too long to stay, and "" for each other one: T1, ISO 10918."""
    tokens = numbers.with_months(tokens)
    listed = [_listed(token, context) and not (token.isdigit() and len(token) < 3) for token in tokens]
    return [t if _DIGIT.search(t) and not word else "" for t, word in zip(tokens, listed, strict=True)]


def _listed_words(value: str, context: Context) -> list[str]:
    words = (token for token in _TOKEN.findall(value) if len(token) >= _LEAST_LETTERS and token.isalpha())
    return [word for word in words if _listed(word, context) and not context.own.name_someone(word)]


def _listed(token: str, context: Context) -> bool:
    return token.upper() in rules.words() or token.upper() in context.extra_words


def _names_someone(value: str, context: Context) -> bool:
    return any(context.own.name_someone(token) for token in _TOKEN.findall(value))


def clean_text(value: str, context: Context, version: bool = False) -> str:
    """Free text with only its listed words and short numbers left (PS3.15 E.3.2, clean descriptors).

    version: it may be that of software"""
    if _ESCAPE in value:
        return ""
    if not value.isascii():  # a letter can be made of bytes that look like a short number
        return " ".join(_listed_words(value, context))
    tokens = _TOKEN.findall(value)
    loose = _loose_numbers(tokens, context)
    stays = [
        (_listed(token, context) or _is_short_number(token, context)) and not context.own.name_someone(token)
        for token in tokens
    ]
    # numbers between which the words go would stand together
    left = [number for number, stay in zip(loose, stays, strict=True) if number or stay]
    told = numbers.together(left, context.own.numbers, version)
    kept = [t for t, number, stay in zip(tokens, loose, stays, strict=True) if stay and not (number and told)]
    return value if len(kept) == len(tokens) and _PLAIN.fullmatch(value) else " ".join(kept)
