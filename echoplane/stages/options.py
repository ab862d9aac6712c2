"""A stage's config as the options of a command: the line under each field is the option's help, and nothing else is."""

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
    """An option for each field of `config`; those in `positional` are arguments, or left out where that is empty."""
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
    """The config from a call's strings; ConfigError names the option that is wrong, not its value."""
    try:
        return config.model_validate({name: _value(value) for name, value in values.items()})
    except ValidationError as error:
        raise ConfigError(_wrong_option(error)) from None


def _value(value: Any) -> Any:
    """A field that is no plain value (a list, a group of settings) is given as JSON."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        with contextlib.suppress(ValueError):
            return json.loads(value)
    return value


def _wrong_option(error: ValidationError) -> str:
    return f"{wrong_field(error, _option)} `--help` shows what is expected."
