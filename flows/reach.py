"""Checks that a Prefect server can be used, before a flow starts."""

import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from toygan.errors import BadInput, Retryable, ToyganError
from toygan.uris import redacted

if TYPE_CHECKING:
    from prefect.settings import Settings

LOOPBACK = ("localhost", "127.0.0.1", "::1")
# These are set before prefect is imported. The user's own values take precedence.
DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "WARNING",
}


def reach_loopback_directly() -> None:
    """Keeps requests to this machine away from a proxy, for this process and its children."""
    for name in ("no_proxy", "NO_PROXY"):
        hosts = [host.strip() for host in os.environ.get(name, "").split(",") if host.strip()]
        if "*" not in hosts:
            os.environ[name] = ",".join([*hosts, *(host for host in LOOPBACK if host not in hosts)])


def configured_server() -> str | None:
    """Returns the URL of the server that Prefect's settings name, or None if they name none.

    Imports Prefect, which takes two seconds, only if one of its sources of settings exists. Sets toygan's
    defaults for Prefect in the environment.
    """
    has_settings = _has_settings()  # before the defaults, which are settings, too
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    return prefect_settings().api.url if has_settings else None


def _has_settings() -> bool:
    """Says whether Prefect has settings: variables, its files in the working folder, or profiles."""
    if any(name.upper().startswith("PREFECT_") and name.upper() != "PREFECT_HOME" for name in os.environ):
        return True
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect"))
    sources = (
        (Path(".env"), "prefect_"),
        (Path("prefect.toml"), ""),
        (Path("pyproject.toml"), "tool.prefect"),
        (home / "profiles.toml", ""),
    )
    return any(_contains(path, word) for path, word in sources)


def _contains(path: Path, word: str) -> bool:
    try:
        return word in path.expanduser().read_text(encoding="utf-8", errors="replace").lower()
    except (FileNotFoundError, RuntimeError):  # RuntimeError: the user has no home folder
        return False
    except OSError:
        return True  # Prefect says what is wrong with it


def prefect_settings() -> "Settings":
    """Imports Prefect and returns its settings.

    Hides Prefect's warning about a home folder that check_home reports. Raises BadInput for a user without a
    home folder, because Prefect cannot be imported then.
    """
    try:
        Path.home()
    except RuntimeError:
        raise BadInput(
            "this user has no home folder, and Prefect needs one; set HOME to a folder that can be written"
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from prefect.settings import get_current_settings

        return get_current_settings()


def check_home() -> None:
    """Raises BadInput if Prefect cannot write its files."""
    home = prefect_settings().home
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise BadInput(
            f"Prefect cannot keep its files in {home} ({error.strerror}); set PREFECT_HOME to a folder "
            "that can be written"
        ) from None


def check_server(url: str) -> None:
    """Asks the server for its version, with the login that Prefect's settings hold.

    Raises BadInput for a server that refuses the login, and for one that is not a Prefect server. Raises
    Retryable if no server answers.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    place = redacted(url)
    asked_once = {PREFECT_API_URL: url, PREFECT_CLIENT_MAX_RETRIES: 0}
    try:
        with temporary_settings(asked_once), get_client(sync_client=True) as client:
            version = client.api_version()
    except httpx.HTTPStatusError as error:
        raise _refusal(place, error.response.status_code) from None
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
        raise _no_prefect(place, redacted(str(error))) from None
    except httpx.TransportError as error:
        reason = redacted(str(error)) or type(error).__name__
        raise Retryable(
            f"Prefect cannot reach {place} ({reason}); start it, or correct PREFECT_API_URL"
        ) from None
    except ValueError:  # not JSON
        raise _no_prefect(place, "its answer is not JSON") from None
    if not isinstance(version, str):
        raise _no_prefect(place, "its answer is not a version")


def _refusal(place: str, status: int) -> ToyganError:
    if status in (401, 403):
        return BadInput(
            f"{place} requires a login (status {status}): set PREFECT_API_AUTH_STRING to USER:PASSWORD as "
            "the server has it (PREFECT_API_KEY for Prefect Cloud), "
            "and unset PREFECT_API_KEY for a server of your own"
        )
    if status == 407:
        return BadInput(
            f"the proxy before {place} requires a login (status 407): correct HTTP_PROXY or HTTPS_PROXY, or "
            "name the host "
            "in NO_PROXY"
        )
    if status >= 500 or status == 429:
        return Retryable(
            f"{place} answers with status {status}; look at the server, then run the same command again"
        )
    return _no_prefect(place, f"status {status}")


def _no_prefect(place: str, why: str) -> BadInput:
    return BadInput(
        f"{place} is not the API of a Prefect server ({why}); correct PREFECT_API_URL, which usually ends "
        "in /api, or "
        "unset it"
    )
