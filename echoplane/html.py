"""The only functions that make HTML: text from a file or a caller is untrusted and always escaped."""

import base64

import jinja2

_ENVIRONMENT = jinja2.Environment(
    autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def render(template: str, layout: str = "", **values: object) -> str:
    """Returns `template` (the text of a Jinja template) filled with `values`, all of them escaped.

    `layout` is the text of a template that several pages share; such a page begins with `{% extends layout %}`.
    Raises jinja2.UndefinedError if `values` lacks a name that the template uses.
    """
    return _ENVIRONMENT.from_string(template).render(layout=_ENVIRONMENT.from_string(layout), **values)


def data_uri(content: bytes, media_type: str = "image/png") -> str:
    """Returns `content` as a data URI for an `src` attribute, so that a page needs no other file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
