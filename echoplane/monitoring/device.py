"""Manufacturer and model of the scanner as the prediction log holds them: listed device words, no other text.

A client's header can hold anything, a patient's name too. De-identification has a list of the words that name
manufacturers and models; only these and the short numbers beside them (EPIQ 7C) are written down.
"""

from functools import cache

from echoplane.deid import quantities, rules
from echoplane.deid.clean_text import TOKEN
from echoplane.study.study import Study

NOT_STATED, UNLISTED = "", "unlisted"
MAX_WORDS = 3
"""Maximum number of words of a name; it bounds its length."""
_GENERAL = frozenset(
    ("BUILD", "CO", "CORP", "CORPORATION", "GMBH", "HEALTH", "HEALTHCARE", "IMAGING", "INC", "LTD", "MEDICAL",
     "RELEASE", "REV", "SOFTWARE", "SYSTEMS", "VERSION")
)  # fmt: skip
# without them, Philips, Philips Healthcare and Philips Medical Systems are one manufacturer
KINDS = ("vendor", "phantom")
"""Kinds of words, in the list of de-identification, that name a device."""


def device_of(study: Study) -> tuple[str, str]:
    """Returns manufacturer and model of the first instance, or of the first cine; NOT_STATED if no header states
    them."""
    manufacturer, model = _stated(study)
    return listed_name(manufacturer), listed_name(model)


def _stated(study: Study) -> tuple[str, str]:
    if not study.instances:
        return study.cines[0].scanner
    first = study.instances[0]
    return first.manufacturer, first.model


def listed_name(text: str) -> str:
    """Returns the listed words of `text` in capitals, with at most one short number after them: EPIQ 7C.

    Returns UNLISTED if no word is listed, and NOT_STATED for an empty text.
    """
    if not text.strip():
        return NOT_STATED
    kept: list[str] = []
    for token in TOKEN.findall(text.upper().replace(".", "")):
        if token in _device_words():
            kept.append(token)
        elif kept and quantities.is_model(token):
            kept.append(token)
            break
    return " ".join(kept[:MAX_WORDS]) or UNLISTED


@cache
def _device_words() -> frozenset[str]:
    return rules.words_of(KINDS) - _GENERAL
