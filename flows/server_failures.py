"""Explains from a local Prefect server's output why it did not start, and names a remedy."""

import re
from collections.abc import Iterable

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from toygan.errors import BadInput, Retryable, ToyganError
from toygan.uris import redacted

# The first pattern that matches gives the message. `{version}` is Prefect's version.
_BAD_INPUT = {
    r"Can't locate revision identified by": "Prefect's database {database} was made by another version of "
    "Prefect than "
    "{version}; move it away, or set PREFECT_HOME to another folder",
    r"file is not a database|database disk image is malformed": "Prefect's database {database} is damaged; "
    "move it "
    "away (the history of past runs goes with it), or set PREFECT_HOME to another folder",
    r"readonly database|unable to open database file|Permission denied|Read-only file system": "Prefect's "
    "database "
    "{database} cannot be written; set PREFECT_HOME to a folder that can be",
    r"password authentication failed|InvalidPassword": "the login of Prefect's database {database} is "
    "refused; "
    "correct PREFECT_SERVER_DATABASE_CONNECTION_URL",
    r"address already in use": "the port of Prefect's server is in use; set PREFECT_SERVER_API_PORT to a "
    "free one",
}
_RETRYABLE = {
    r"database or disk is full|No space left on device": "the disk with Prefect's database {database} is "
    "full; make "
    "room, then run the same command again",
    r"database is locked": "another process has locked Prefect's database {database}; run the same "
    "command again when it has ended",
    r"Connection refused|Connect call failed|could not translate host name|Name or service not known": ""
    "Prefect's "
    "database {database} does not answer; start it, or correct PREFECT_SERVER_DATABASE_CONNECTION_URL",
}


def why_it_ended(code: int, lines: Iterable[str]) -> ToyganError:
    """Returns the error for a server that ended with `code` after it wrote `lines`."""
    import prefect

    kept = [line.strip() for line in lines if line.strip()]
    text, names = "\n".join(kept), {"database": _database(), "version": prefect.__version__}
    for kind, signs in ((BadInput, _BAD_INPUT), (Retryable, _RETRYABLE)):
        for sign, message in signs.items():
            if re.search(sign, text, re.IGNORECASE):
                return kind(message.format(**names))
    errors = (
        [line for line in kept if re.match(r"[\w.]*(Error|Exception)\b", line)]
        or kept
        or ["it wrote nothing"]
    )
    return Retryable(
        f"Prefect's server ended with status {code} at its start ({redacted(errors[-1])}); `prefect server "
        "start` says more"
    )


def _database() -> str:
    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL

    value = PREFECT_API_DATABASE_CONNECTION_URL.value()
    text = value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
    try:
        url = make_url(text)
    except ArgumentError:
        return "(PREFECT_SERVER_DATABASE_CONNECTION_URL)"
    if url.get_backend_name() == "sqlite":
        return url.database or "in memory"
    return url.render_as_string(hide_password=True)
