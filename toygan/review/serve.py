"""Serves the review page until it is stopped."""

import ipaddress
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import quote

import uvicorn

from catalog_schemas.decisions import is_person
from toygan.errors import BadInput
from toygan.publishing.commit import complete_open_runs
from toygan.review.app import make_app
from toygan.storage.store import ObjectStore

_LOCAL = ("127.0.0.1", "localhost", "[::1]")


def serve(
    store: ObjectStore,
    *,
    address: str,
    port: int,
    by: str,
    token: str | None = None,
    ready: Callable[[str], object],
) -> None:
    """Answers requests until SIGINT or SIGTERM; calls `ready(url)` once the port is open.

    With `port` 0 it takes a free port. If `address` can be reached from other machines, every request needs
    `token`, by default a random one. The URL contains the token. Raises BadInput if the address cannot be
    used.
    """
    if by and not is_person(by):
        raise BadInput(f"--by {by!r:.80}: a name has 1 to 64 printable characters and is not 'machine'")
    is_local = address in ("127.0.0.1", "localhost", "::1")
    if not is_local:
        token = token or secrets.token_urlsafe(24)
    complete_open_runs(store)
    with _listen(address, port) as listening:
        port = listening.getsockname()[1]
        app = make_app(store, by=by, hosts=_LOCAL if is_local else ("*",), token=None if is_local else token)
        query = "" if is_local or token is None else f"?token={quote(token, safe='')}"
        ready(f"http://{_in_url(address)}:{port}/{query}")
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address, port))
        listening.listen()  # from now on a browser waits for the page instead of being refused
    except OSError as error:
        listening.close()
        raise BadInput(
            f"--port {port} on --address {address}: {error.strerror or error}; give a free port of an "
            "address of this machine"
        ) from None
    return listening


def _in_url(address: str) -> str:
    """Returns the host for the URL. If `address` means all addresses, it is the name of this machine."""
    with suppress(ValueError):
        parsed = ipaddress.ip_address(address)
        if parsed.is_unspecified:
            return socket.gethostname()
        if parsed.version == 6:
            return f"[{address}]"
    return address
