"""A stage's config as command-line options; the help of an option is exactly the line under its field."""

import argparse
import contextlib
import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from echoplane.errors import ConfigError, wrong_field
from echoplane.renamed import former_names

Config = TypeVar("Config", bound=BaseModel)


def add_fields(parser: argparse.ArgumentParser, config: type[BaseModel], positional: dict[str, str]) -> None:
    """Adds an option for each field of `config`; fields in `positional` become arguments, or are left out if empty
    there."""
    for field, info in config.model_fields.items():
        name = positional.get(field)
        if name:
            parser.add_argument(field, metavar=name, help=info.description)
        elif name is None:
            parser.add_argument(
                _option(field), dest=field, required=info.is_required(), default=argparse.SUPPRESS, help=_help(info)
            )
            for former in former_names(field):
                parser.add_argument(_option(former), dest=field, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _option(field: str) -> str:
    return f"--{field.replace('_', '-')}"


def _help(info: FieldInfo) -> str:
    text = " ".join((info.description or "").split())
    if info.is_required():
        return text.replace("%", "%%")
    default = info.get_default(call_default_factory=True)
    shown = default.model_dump_json() if hasattr(default, "model_dump_json") else default
    return (text if shown in ("", None) else f"{text} Default {shown}").replace("%", "%%")


def config_of(config: type[Config], values: dict[str, Any]) -> Config:
    """Returns the config from a command's strings. Raises ConfigError, which names the wrong option but not its
    value."""
    try:
        return config.model_validate({name: _value(value) for name, value in values.items()})
    except ValidationError as error:
        raise ConfigError(_wrong_option(error)) from None


def _value(value: Any) -> Any:
    """Returns the value; a field that is not a scalar (a list, a group of settings) is given as JSON."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        with contextlib.suppress(ValueError):
            return json.loads(value)
    return value


def _wrong_option(error: ValidationError) -> str:
    return f"{wrong_field(error, _option)} `--help` shows what is expected."
