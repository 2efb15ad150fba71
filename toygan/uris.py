"""Tells the URIs of this machine from others, and refuses users and passwords in URIs.

Users and passwords would end up in logs, parameters and manifests.
"""

import re
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from toygan.errors import StoreConfigError

# A pattern for JSON Schema and Python. It matches paths, and URIs without a user or password.
WITHOUT_CREDENTIALS = r"^(?![A-Za-z][A-Za-z0-9+.-]*://[^/]*@)"
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")


def redacted(text: str) -> str:
    """Replaces the user and password of every URI in a text by `***`."""
    return _CREDENTIALS.sub("***@", text)


def refuse_credentials(uri: str) -> str:
    """Returns the URI or path. Raises StoreConfigError if it holds credentials; the message hides them."""
    if re.match(WITHOUT_CREDENTIALS, uri):
        return uri
    raise StoreConfigError(
        f"{redacted(uri)}: a user or password in a URI would end in logs and tables; leave them out, set "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    )


def local_path(uri: str) -> Path | None:
    """Returns the path of the file or folder that a URI or path names; None if it is not of this machine.

    Raises StoreConfigError for a file URI that cannot be split.
    """
    scheme, is_uri, _ = uri.partition("://")
    if not is_uri:
        return Path(uri)
    return Path(unquote(split_file_uri(uri).path)) if scheme.lower() == "file" else None


def split_file_uri(uri: str) -> SplitResult:
    """Returns the parts of a file URI. Raises StoreConfigError if it has none."""
    try:
        return urlsplit(uri)
    except ValueError:  # half an IPv6 address
        raise not_a_file_uri(uri) from None


def not_a_file_uri(uri: str) -> StoreConfigError:
    """Builds the error of a URI that names no file or folder of this machine."""
    return StoreConfigError(f"{uri}: not a file URI of this machine; write it as file:///absolute/path")
