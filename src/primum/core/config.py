"""One declaration per verb: a frozen pydantic model from which flags, help, YAML keys and manifest follow.

A default is written once, in the model. An unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import argparse
import inspect
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from primum.core.errors import BadInputError, UsageError, did_you_mean

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of every verb's configuration: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def run_folder(self) -> str | None:
        """The folder that one run at a time may write to: --out, unless nothing is written there."""
        return None if getattr(self, "dry_run", False) else getattr(self, "out", None)


def build(cls: type[C], values: Mapping[str, Any], where: str = "configuration") -> C:
    """Validate values into a configuration.

    Raises:
        UsageError: an unknown key (with the nearest known one), or a value that does not fit.
    """
    _check_keys(cls, values, where)
    try:
        return cls(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{key}: {first['msg']}, got {first['input']!r}", where=where, cure=_help(cls, key)) from error


def _check_keys(cls: type[Config], values: Mapping[str, Any], where: str, prefix: str = "") -> None:
    for key, value in values.items():
        info = cls.model_fields.get(key)
        if info is None:
            raise UsageError(f"unknown key '{prefix}{key}'", where=where, cure=did_you_mean(key, cls.model_fields))
        inner = _nested(info.annotation)
        if inner and isinstance(value, Mapping):
            _check_keys(inner, cast(Mapping[str, Any], value), where, f"{prefix}{key}.")


def _help(cls: type[Config], key: str) -> str | None:
    info = cls.model_fields.get(key.split(".")[0])
    return info.description if info else None


def add_flags(parser: argparse.ArgumentParser, cls: type[Config]) -> None:
    """Add one flag per field; a field named `model` becomes an optional positional argument.

    Flags are left out of the namespace where the user did not give them, so that defaults stay in the model. Fields
    that come from a class with a `flag_group` of its own stand behind all others, under that title.
    """
    titles = {name: _title(cls, name) for name in cls.model_fields}
    groups = {title: parser.add_argument_group(title) if title else parser for title in dict.fromkeys(titles.values())}
    for name, info in sorted(cls.model_fields.items(), key=lambda item: bool(titles[item[0]])):
        place, inner = groups[titles[name]], _nested(info.annotation)
        if inner:
            _add_nested(parser, name, inner)
            continue
        options: dict[str, Any] = {"help": _help_line(info), "default": argparse.SUPPRESS}
        kind = _inner(info.annotation)
        if get_origin(kind) is tuple:
            # one value a flag: with several, the flag would swallow the model's name that stands behind it
            options.update(action="append", type=_scalar(get_args(kind)[0]), metavar=name.upper())
            options["help"] += "" if _positional(info) else "; give it again for more"
        elif kind is bool:
            options.update(action=argparse.BooleanOptionalAction)
        elif get_origin(kind) is Literal:
            options.update(choices=get_args(kind))
        else:
            options.update(type=_scalar(kind), metavar=name.upper())
        if _positional(info):
            many = options.pop("action", None) == "append"  # a positional takes its values one after the other
            options.pop("metavar", None)
            place.add_argument(name, nargs="*" if many else "?", **options)
        else:
            place.add_argument(*(f"--{one.replace('_', '-')}" for one in (name, *_also(info))), dest=name, **options)


def _title(cls: type[Config], name: str) -> str:
    """Return the title of the group of flags that a field's own class asks for, or nothing."""
    owner = next((base for base in cls.__mro__ if name in inspect.get_annotations(base)), cls)
    return str(vars(owner).get("flag_group", ""))


def _nested(annotation: Any) -> type[Config] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Config) else None


def _add_nested(parser: argparse.ArgumentParser, name: str, cls: type[Config]) -> None:
    """Add the flags of a configuration inside a configuration, as `--name.field`."""
    group = parser.add_argument_group(name, (cls.__doc__ or "").strip().splitlines()[0])
    for key, info in cls.model_fields.items():
        scalar = _scalar(_inner(info.annotation))
        flag = f"--{name}.{key.replace('_', '-')}"
        group.add_argument(
            flag,
            dest=f"{name}.{key}",
            type=scalar,
            metavar=key.upper(),
            help=_help_line(info),
            default=argparse.SUPPRESS,
        )


def flag_values(cls: type[Config], flags: argparse.Namespace) -> dict[str, Any]:
    """Return what the user gave, by field; `--dpo.beta 0.2` becomes {"dpo": {"beta": 0.2}}."""
    values: dict[str, Any] = {}
    for key, value in vars(flags).items():
        outer, _, inner = key.partition(".")
        if outer in cls.model_fields:
            if inner:
                cast(dict[str, Any], values.setdefault(outer, {}))[inner] = value
            else:
                values[outer] = value
    return values


def _also(info: FieldInfo) -> tuple[str, ...]:
    """Return the other name of a flag, where it has one: what another verb calls it."""
    extra = cast(object, info.json_schema_extra)
    return (str(cast(dict[str, object], extra)["also"]),) if isinstance(extra, dict) and "also" in extra else ()


def _positional(info: FieldInfo) -> bool:
    extra = cast(object, info.json_schema_extra)
    return isinstance(extra, dict) and "positional" in extra


def _help_line(info: FieldInfo) -> str:
    text = info.description or ""
    if info.default not in (None, ()) and not info.is_required():
        default = cast(object, info.default)
        shown = ", ".join(map(str, cast(tuple[object, ...], default))) if isinstance(default, tuple) else default
        text += f" (default: {shown})"
    return text.replace("%", "%%")


def _inner(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, types.UnionType):
        return next(arg for arg in get_args(annotation) if arg is not type(None))
    return annotation


def _scalar(kind: Any) -> Any:
    return kind if kind in (int, float, str) else str


def from_flags(cls: type[C], flags: argparse.Namespace) -> C:
    """Build the configuration from parsed flags (pydantic refuses what does not fit)."""
    return build(cls, flag_values(cls, flags), where="command line")


def merged(file: dict[str, Any], flags: dict[str, Any]) -> dict[str, Any]:
    """Return the file's settings with the flags over them, also inside nested settings."""
    both = {**file, **flags}
    for key, value in flags.items():
        if isinstance(value, dict) and isinstance(file.get(key), dict):
            both[key] = {**file[key], **value}
    return both


SETTINGS = "write lines like 'budget: quick'"


def read_settings(name: str, what: str = "configuration file", cure: str = SETTINGS) -> dict[str, Any]:
    """Return the settings of a YAML file; of an empty one none.

    Args:
        name: the file.
        what: it is, for the message.
        cure: what to do where it holds something else.

    Raises:
        BadInputError: no such file, not UTF-8, no valid YAML, or no settings by name; names file and line.
    """
    from primum.core.marked import read_yaml

    settings = read_yaml(Path(name), what, cure).value
    if settings is None:
        return {}
    if not isinstance(settings, dict) or not all(isinstance(key, str) for key in cast(dict[Any, Any], settings)):
        raise BadInputError("must hold settings by name", where=name, cure=cure)
    return cast(dict[str, Any], settings)
