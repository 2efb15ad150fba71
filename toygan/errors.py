"""All errors that toygan raises on purpose.

ToyganError
├── BadInput            the user has to change something; a retry will not help (exit code 2)
│   ├── CatalogError    the catalog cannot be read or has no usable row
│   ├── ModelError      a model is missing, damaged or of the wrong kind
│   ├── StoreConfigError  a store cannot be used: bad URI, missing bucket, wrong credentials
│   │   └── AccessRefused  the store refuses access to one object or folder, for example for its permissions
│   └── RunConflict     a run id is in use with another catalog or other settings
├── Retryable           the same call may succeed later (exit code 1)
│   ├── StoreUnavailable  the store did not answer, or not in time, after all retries
│   └── DiskFull          the disk has no room for a file; earlier files are kept
├── RunFailed           the run ended without a usable result (exit code 1)
├── ObjectNotFound      no object under this key
└── Conflict            another process changed the object first

Anything else that escapes is a bug.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class ToyganError(Exception):
    """Base of all errors that toygan raises on purpose."""


class BadInput(ToyganError):
    """The input is wrong. The message names the thing and the remedy."""


class CatalogError(BadInput):
    """The catalog cannot be used."""


class ModelError(BadInput):
    """The model is missing, damaged or not of the wanted kind."""


class StoreConfigError(BadInput):
    """The store cannot be used as configured."""


class AccessRefused(StoreConfigError):
    """The store refuses access to an object or a folder. Others in the same store may be usable."""


class RunConflict(BadInput):
    """The run id belongs to a run with another catalog or other settings."""


class Retryable(ToyganError):
    """A service, network or disk failed. The same call may succeed later."""


class StoreUnavailable(Retryable):
    """The store gave no usable answer, even after retries."""


class DiskFull(Retryable):
    """The disk is full. The message says what is not lost."""


class RunFailed(ToyganError):
    """The run ended without a usable result."""


class ObjectNotFound(ToyganError):
    """There is no object under the key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"no object under the key {key!r}")
        self.key = key


class Conflict(ToyganError):
    """Another process changed the object under the key before this process could replace it."""

    def __init__(self, key: str) -> None:
        super().__init__(f"another process has changed the object under the key {key!r} in the meantime")
        self.key = key


@contextmanager
def needs_extra(extra: str, use: str) -> Iterator[None]:
    """Wraps imports that a feature (`use`) needs.

    If a package is missing, raises BadInput, whose message says how to install it.
    """
    try:
        yield
    except ImportError as error:
        raise BadInput(f"{use} needs the package {error.name}: pip install 'toygan[{extra}]'") from None
