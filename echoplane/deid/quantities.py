"""Numbers that header text may keep: each has a role that its form or its neighbours prove, and all others are removed.

The roles are measurements (25 fps, 1.5T), counts (stage 2, SAX 12), one single digit, and in the attributes of a device
models (EPIQ 7C), versions (2.6.3) and transducers (C5-1). A number without a role could be anything: the day of an
examination, an age, a piece of an identifier, a room.
"""

import re
from collections.abc import Sequence, Set

from echoplane.deid import rules
from echoplane.deid.telling import VERSIONS, Token

_MODELS = VERSIONS | {"TransducerData"}
_DOTTED = VERSIONS | {"CodingSchemeVersion"}
_UNITS = r"(?:[km]?hz|fps|bpm|[mcu]m|ms|sec|s|db|deg|m?t|mcg|ug|ml|mmhg|%)"
_MEASUREMENT = re.compile(rf"(?<![\w.])\d{{1,3}}(?:\.\d{{1,3}})?\s?{_UNITS}(?![A-Za-z0-9])", re.IGNORECASE | re.ASCII)
_VERSION = re.compile(r"(?<![A-Za-z0-9.])(?:[A-Za-z]{1,3}|[A-Za-z]\.)?\d{1,3}(?:\.\d{1,3})*(?![A-Za-z0-9])", re.ASCII)
_MODEL = re.compile(r"[A-Z]{1,2}\d{1,2}[A-Z]{0,2}|\d{1,2}[A-Z]", re.IGNORECASE | re.ASCII)
_MODEL_NUMBER = re.compile(r"[1-9]\d{0,2}", re.ASCII)
_COUNT = re.compile(r"([A-Z]*)([1-9]\d?)", re.ASCII)
_BETWEEN = re.compile(r"[\s_#:=.-]*")
"""What may stand between a word and its number."""
_DIGIT = re.compile(r"\d", re.ASCII)
# GE and others write the modes of an ultrasound image as bits (PS3.3 C.8.5.6.1.1): 0001 is 2D, 0010 colour flow
_MODES = re.compile(r"[0-9A-F]{4}", re.ASCII)
_MODES_PLACE, _MOST_MODES = 3, 3
_COUNTED = frozenset(
    ("BEAT", "CINE", "CLIP", "FRAME", "IMAGE", "LAX", "LEAD", "LEVEL", "LOOP", "PHASE", "POST", "SAX", "SERIES",
     "SLICE", "STACK", "STAGE", "VIEW")
)  # fmt: skip


def is_modes(value: str, keyword: str, place: int) -> bool:
    """Returns True if the value of an image type at this place, from 0, is a bit mask of few modes of ultrasound."""
    mask = keyword == "ImageType" and place == _MODES_PLACE and _MODES.fullmatch(value) is not None
    return mask and int(value, 16).bit_count() <= _MOST_MODES


def with_a_role(
    values: Sequence[str], tokens: Sequence[Token], keyword: str, extra_words: Set[str] = frozenset()
) -> set[int]:
    """Returns the positions of the tokens with digits that have a role among the values of one element.

    extra_words: words in capitals that a policy keeps, such as names of machines. After any other word that no list
    has, a short name is no model: Stn. A65 is a ward."""
    spans = _spans(values, keyword)
    found = {k for k, t in enumerate(tokens) if any(t.value == i and start <= t.start < end for i, start, end in spans)}
    for k, token in enumerate(tokens):
        before = tokens[k - 1] if k and tokens[k - 1].value == token.value else None
        joined = before is not None and _BETWEEN.fullmatch(
            values[token.value][before.start + len(before.text) : token.start]
        )
        after = before if joined else None
        after_product = before is None or k - 1 in found or _is_word(before.text) or before.upper in extra_words
        of_device = after_product and _is_model(token, after, after is not None and k - 1 in found)
        if of_device if keyword in _MODELS else _is_count(token, after):
            found.add(k)
    if keyword in _MODELS:
        return found
    numbers = [k for k, token in enumerate(tokens) if _DIGIT.search(token.text) and not _is_word(token.text)]
    alone = [k for k in numbers if k not in found]
    return found | set(alone) if len(alone) == 1 and len(tokens[alone[0]].text) == 1 else found


def _is_word(token: str) -> bool:
    """Returns True if a token is a listed word, such as 4CH and T1."""
    return token.upper() in rules.words()


def is_model(token: str) -> bool:
    """Returns True for a number or short name that can be a model after the words of a device: 700, 7C, E95."""
    return (_MODEL_NUMBER.fullmatch(token) or _MODEL.fullmatch(token)) is not None


def _spans(values: Sequence[str], keyword: str) -> list[tuple[int, int, int]]:
    """Returns the index of the value, the start and the end of each measurement and each version."""
    found = [
        (i, match.start(), match.end()) for i, value in enumerate(values) for match in _MEASUREMENT.finditer(value)
    ]
    if keyword in _DOTTED:
        versions = ((i, match) for i, value in enumerate(values) for match in _VERSION.finditer(value))
        found += [(i, match.start(), match.end()) for i, match in versions if "." in match[0]]
    return found


def _is_model(token: Token, after: Token | None, after_model: bool) -> bool:
    """Returns True for E95 and 7C, for the number after a listed word (LOGIQ 700), and for the 1 of C5-1."""
    if _MODEL.fullmatch(token.text):
        return True
    if after is None or not _MODEL_NUMBER.fullmatch(token.text):
        return False
    return _is_word(after.text) or (after_model and len(token.text) == 1)


def _is_count(token: Token, after: Token | None) -> bool:
    """Returns True for the number after a word that is counted: stage 2, SAX12."""
    match = _COUNT.fullmatch(token.upper)
    if match is None:
        return False
    return (match[1] or (after.upper if after else "")) in _COUNTED
