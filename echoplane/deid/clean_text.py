"""Cleaning of header text: keeps only listed words and short numbers (PS3.15 E.3.2) that do not identify a person.

The values of an element are judged together, since a date or an identifier can be split over them. Each value is split
into tokens; module `telling` finds those that tell who the patient is, or when.
"""

import re

from echoplane.deid import numbers, quantities, rules
from echoplane.deid.context import Context
from echoplane.deid.enumerated import ENUMERATED
from echoplane.deid.telling import VERSIONS, Token, telling_tokens

PLAIN = re.compile(r"[A-Za-z0-9 _.,/+:;()\[\]{}%*^'-]*")
ESCAPE = "\x1b"  # begins another character set (ISO 2022), in which letters are pairs of ASCII
TOKEN = re.compile(r"[^\W_]+")
_LETTERS, _DIGIT = re.compile(r"[A-Za-z]+"), re.compile(r"\d", re.ASCII)
_MIN_WORD_LETTERS = 4
_MAX_LETTERS = 3  # single letters in a term; more can be the beginning of a name


def clean(values: list[str], keyword: str, context: Context, *, terms: bool = False) -> list[str]:
    """Returns the values of one element with only what may be kept; terms (CS) are kept whole or not at all."""
    if keyword in ENUMERATED:
        return [value if value.strip() in ENUMERATED[keyword] else "" for value in values]
    known = (keyword, str(terms), *values)
    if known not in context.cleaned:
        context.cleaned[known] = _clean(values, keyword, context, terms)
    return context.cleaned[known]


def _clean(values: list[str], keyword: str, context: Context, terms: bool) -> list[str]:
    foreign = [ESCAPE in value or not value.isascii() for value in values]
    tokens = [Token(m[0], k, m.start()) for k, value in enumerate(values) for m in TOKEN.finditer(value)]
    telling = telling_tokens(values, tokens, keyword, context, terms)
    if not terms:  # words are kept by their list, numbers by their role
        kept_numbers = quantities.with_a_role(values, tokens, keyword, context.extra_words)
        telling |= {
            k
            for k, token in enumerate(tokens)
            if not _listed(token.text, context) and (k not in kept_numbers or _is_named(token.text, context))
        }
    kept = []
    for index, value in enumerate(values):
        own = [(token, position in telling) for position, token in enumerate(tokens) if token.value == index]
        if terms:
            may_stay = not foreign[index] and _is_term(value, own, context, quantities.is_modes(value, keyword, index))
            kept.append(value if may_stay else "")
        elif foreign[index]:
            # bytes of a letter of another character set can look like a short number
            kept.append("" if ESCAPE in value else " ".join(_listed_words(own, context)))
        else:
            kept.append(_words(value, own, keyword, context))
    return kept


def _words(value: str, tokens: list[tuple[Token, bool]], keyword: str, context: Context) -> str:
    version = keyword in VERSIONS
    texts = [token.text for token, _ in tokens]
    loose = _loose_numbers(texts, context)
    stays = [not telling for _, telling in tokens]
    # numbers would become adjacent if the words between them were removed
    left = [number for number, stay in zip(loose, stays, strict=True) if number or stay]
    together = numbers.together(left, context.own.numbers, version)
    kept = [t for t, number, stay in zip(texts, loose, stays, strict=True) if stay and not (number and together)]
    return value if len(kept) == len(texts) and PLAIN.fullmatch(value) else " ".join(kept)


def _is_term(value: str, tokens: list[tuple[Token, bool]], context: Context, is_modes: bool) -> bool:
    """Returns True if every token of a CS may be kept: coded strings are terms, but some files hold names in them."""
    texts = [token.text for token, _ in tokens]
    spelled = "".join(text for text in texts if len(text) == 1)
    return (
        len(value) <= 16
        and not any(telling for _, telling in tokens)
        and (is_modes or all(_listed(text, context) or (len(text) == 1 and text.isalpha()) for text in texts))
        and len(spelled) <= _MAX_LETTERS
        and not context.own.inside(spelled, 2)
        and not numbers.together(_loose_numbers(texts, context), context.own.numbers, version=False)
    )


def _is_named(token: str, context: Context) -> bool:
    """Returns True if a number holds a name of the file: LEE1."""
    return any(context.own.name_someone(part) for part in (token, *_LETTERS.findall(token)))


def _loose_numbers(tokens: list[str], context: Context) -> list[str]:
    """Returns the numbers among the tokens, also those too long to be kept, and "" for each other token.

    Listed terms such as T1 are no numbers.
    """
    tokens = numbers.with_months(tokens)
    return [token if _DIGIT.search(token) and not _listed(token, context) else "" for token in tokens]


def _listed_words(tokens: list[tuple[Token, bool]], context: Context) -> list[str]:
    long = (
        token.text
        for token, telling in tokens
        if not telling and len(token.text) >= _MIN_WORD_LETTERS and token.text.isalpha()
    )
    # the capital of a dotless i is in ASCII, as are the listed words and all text that is written
    return [word if word.isascii() else word.upper() for word in long if _listed(word, context)]


def _listed(token: str, context: Context) -> bool:
    return token.upper() in rules.words() or token.upper() in context.extra_words


def names_someone(value: str, context: Context) -> bool:
    """Returns True if a token of the value is a name or an identifier of the file."""
    return any(context.own.name_someone(token) for token in TOKEN.findall(value))
