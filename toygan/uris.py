"""Users and passwords in URIs: they would end in logs, parameters and manifests, and are refused."""

import re

from toygan.errors import StoreConfigError

# As JSON Schema and Python read it; it finds nothing in a URI that holds a user or a password.
WITHOUT_CREDENTIALS = r"^(?![A-Za-z][A-Za-z0-9+.-]*://[^/]*@)"
_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")


def redacted(text: str) -> str:
    """The text with `***` for what stands before the host in its URIs."""
    return _CREDENTIALS.sub("***@", text)


def refuse_credentials(uri: str) -> str:
    """Returns a URI, or path, that holds none; raises StoreConfigError that does not repeat them."""
    if re.match(WITHOUT_CREDENTIALS, uri):
        return uri
    raise StoreConfigError(
        f"{redacted(uri)}: a user or password in a URI would end in logs and tables; leave them out, set "
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    )
