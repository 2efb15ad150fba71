"""Reads JSON objects."""

import json
from typing import Any

from toygan.errors import ModelError


def json_object(data: bytes, where: str, remedy: str) -> dict[str, Any]:
    """Parses a JSON object. Raises ModelError for other data; the message ends with `remedy`."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where} is not JSON ({error}); {remedy}") from None
    if not isinstance(content, dict):
        raise ModelError(f"{where} is a JSON {type(content).__name__}, not an object; {remedy}")
    return content
