"""Config objects from what users and files say."""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Config = TypeVar("Config", bound=DataclassInstance)


def from_options(config: "type[Config]", options: Mapping[str, Any], *, owner: str) -> "Config":
    """An instance of the dataclass `config` with the given options, the others at their defaults.

    `options` holds JSON values; whole numbers pass as float, lists as tuples, nothing else is converted.
    `owner` begins the message. Raises ValueError for an option that does not exist (naming those that do),
    for one that is missing, for a value of another type and for whatever the class itself refuses.
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
