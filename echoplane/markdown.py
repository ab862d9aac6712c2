"""Escapes text for the Markdown pages that Kubeflow shows."""

import re

_SPECIAL = re.compile(r"([*<>\[\]|~])")
_NAME = re.compile(r"`[^`]*`|[\w./-]*_[\w./-]*")


def inline(text: str) -> str:
    """Returns `text` with names that hold an underscore as code, and Markdown's special characters escaped.

    An underscore is emphasis in Markdown: `patients_in_two_splits` would lose two of its three.
    """
    parts, end = [], 0
    for name in _NAME.finditer(text):
        parts += [_escaped(text[end : name.start()]), f"`{name[0].strip('`').replace('|', '/')}`"]
        end = name.end()
    return "".join([*parts, _escaped(text[end:])])


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text.replace("`", "'"))
