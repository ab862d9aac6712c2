"""Removal of dates, identifiers and names that are split over several elements, whatever their VRs are.

An element with 21 and the next with 05 disclose the date of the study. All texts and whole numbers of the new header
are read in order of tags; elements that together hold an identifying value of the file are emptied.
"""

import re
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import NamedTuple

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import BaseTag, Tag

from echoplane.deid import rules
from echoplane.deid.context import Context
from echoplane.deid.values import OwnValues

Element = DataElement | RawDataElement
_ATOM = re.compile(r"[A-Za-z]+|\d+", re.ASCII)
_INTEGERS = frozenset(("IS", "DS"))
_READ = rules.TEXT_VRS | _INTEGERS | {"CS"}
_MOST_VALUES = 8
"""Maximum number of values of an element; longer lists are measurements, in which any number can occur by chance."""
_MOST_ELEMENTS, _LONGEST = 4, 24
_SHORTEST_IDENTIFIER, _SHORTEST_NAME, _SHORTEST_DAY = 5, 4, 4
_MONTHS = 12
_DEVICE = frozenset((0x00080070, 0x00081090, 0x00181020))
"""Manufacturer, model and version, whose numbers lie between those of descriptions."""
_IDENTITY = frozenset((0x00100010, 0x00100020))
_IMAGE_PIXEL = 0x0028
"""Group of rows, columns and bits, which the pixels confirm."""


_STAGE, _STAGES_IN_ALL, _VIEW, _VIEWS_IN_ALL = (Tag(0x0008, number) for number in (0x2122, 0x2124, 0x2128, 0x212A))
_STAGES = (_STAGE, _STAGES_IN_ALL, _VIEW, _VIEWS_IN_ALL)
_TOTALS = frozenset(((_STAGE, _STAGES_IN_ALL), (_VIEW, _VIEWS_IN_ALL)))
_MOST_STAGES = 8  # of a stress examination


class _Atom(NamedTuple):
    text: str
    place: int
    """Index of the element."""
    whole: bool
    """True if the element holds nothing else."""


def remove(built: dict[BaseTag, Element], context: Context) -> None:
    """Empties the elements over which an identifying value is split."""
    places = [tag for tag, element in sorted(built.items()) if _is_read(int(tag), element)]
    texts = [list(_texts(built[tag])) for tag in places]
    atoms = [_Atom(text, place, len(own) == 1) for place, own in enumerate(texts) for text in own]
    numbers_and_pieces = [atom for atom in atoms if not _is_word(atom.text)]
    prose = {place for place, tag in enumerate(places) if built[tag].VR in rules.TEXT_VRS and tag not in _DEVICE}
    of_texts = [atom for atom in numbers_and_pieces if atom.place in prose]
    telling = _telling(numbers_and_pieces, context) | _telling(of_texts, context)
    telling |= _short_names([atom for atom in atoms if atom.place in prose], context.own)
    telling |= {places.index(tag) for tag in _stages_with_a_day(built, context.own)}
    for place in sorted(telling):
        element = built[places[place]]
        built[places[place]] = element._replace(value=b"", length=0)  # type: ignore[union-attr]
        context.note("(cut over elements)", "emptied")


def _stages_with_a_day(built: dict[BaseTag, Element], own: OwnValues) -> set[BaseTag]:
    """Returns the numbers of stages and views that are a day and its month and not plausible, such as 16 of 4."""
    whole = [(tag, bytes(built[tag].value or b"").decode("ascii").strip()) for tag in _STAGES if tag in built]
    found: set[BaseTag] = set()
    for (tag, number), (next_tag, next_number) in combinations([pair for pair in whole if pair[1].isdigit()], 2):
        first, second = int(number), int(next_number)
        of_total = (tag, next_tag) in _TOTALS and first > second
        if number + next_number in own.day_forms and (of_total or max(first, second) > _MOST_STAGES):
            found |= {tag, next_tag}
    return found


def _is_read(tag: int, element: Element) -> bool:
    return (
        isinstance(element, RawDataElement)
        and element.VR in _READ
        and tag not in _IDENTITY
        and tag >> 16 != _IMAGE_PIXEL
    )


def _texts(element: Element) -> Iterator[str]:
    values = bytes(element.value or b"").decode("ascii").split("\\")
    if len(values) > _MOST_VALUES:
        return
    for value in values:
        if element.VR not in _INTEGERS or value.strip().lstrip("+-").isdigit():
            yield from (match[0].upper() for match in _ATOM.finditer(value))


def _is_word(text: str) -> bool:
    return len(text) > 1 and text.isalpha() and text in rules.words()


def _telling(atoms: list[_Atom], context: Context) -> set[int]:
    own = context.own
    found: set[int] = set()
    for first in range(len(atoms)):
        run: list[_Atom] = []
        for atom in atoms[first : first + _LONGEST]:
            run.append(atom)
            places = {each.place for each in run}
            if len(places) > _MOST_ELEMENTS:
                break
            joined = "".join(each.text for each in run)
            if len(places) > 1 and (_is_person(joined, own) or _is_day(run, joined, context)):
                found |= places
    return found


def _short_names(atoms: list[_Atom], own: OwnValues) -> set[int]:
    """Returns adjacent elements that hold nothing but the halves of a name, even if these are listed words: I, TO."""
    return {
        atom.place
        for first, second in pairwise(atoms)
        if first.whole and second.whole and first.text + second.text in own.joined
        for atom in (first, second)
    }


def _is_person(joined: str, own: OwnValues) -> bool:
    known = joined in own.joined or joined.lstrip("0") in own.numbers
    return known and len(joined) >= (_SHORTEST_NAME if joined.isalpha() else _SHORTEST_IDENTIFIER)


def _is_day(run: list[_Atom], joined: str, context: Context) -> bool:
    """Returns True if the digits are a date of the file with its year, or, as two elements, a day and its month."""
    own = context.own
    if not joined.isdigit():
        return False
    if not all(atom.whole for atom in run):  # between words: rest 12, run 21
        return len(run) == 2 and joined in own.day_forms and max(int(atom.text) for atom in run) > _MONTHS
    if len(run) == 2:
        return joined in own.day_forms and len(joined) == 4 and any(atom.text[0] == "0" for atom in run)
    return joined in own.day_forms and len(joined) >= _SHORTEST_DAY
