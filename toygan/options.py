"""Makes config objects from the options that users and files give."""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Config = TypeVar("Config", bound=DataclassInstance)


def from_options(config: "type[Config]", options: Mapping[str, Any], *, owner: str) -> "Config":
    """Makes an instance of the dataclass `config` with the given options. Other options keep their defaults.

    `options` holds JSON values. A whole number is accepted as a float and a list as a tuple; nothing else is
    converted. Raises ValueError for an unknown option (the message names the known ones), for a missing
    option, for a value of another type, and for values that the class itself refuses. The message begins with
    `owner`.
    """
    from pydantic import TypeAdapter, ValidationError

    known = [each.name for each in fields(config)]
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise ValueError(f"{owner}: no option {', '.join(unknown)}; known are {', '.join(known)}")
    try:
        return TypeAdapter(config).validate_json(json.dumps(dict(options)), strict=True)
    except ValidationError as error:
        problems = "; ".join(_problem(each["loc"], each["msg"], each["input"]) for each in error.errors())
        raise ValueError(f"{owner}: {problems}") from error


def _problem(location: tuple[int | str, ...], message: str, found: Any) -> str:
    if not location:
        return message.removeprefix("Value error, ")
    name = ".".join(str(part) for part in location)
    return f"{name}: {message}" if isinstance(found, dict) else f"{name}: {message}, found {found!r}"
