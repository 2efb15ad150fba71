"""Interprets the answers of a server: whether they are S3 answers, and which errors they report."""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple, Self

from toygan.errors import (
    AccessRefused,
    Conflict,
    ObjectNotFound,
    StoreConfigError,
    StoreUnavailable,
    ToyganError,
)

CREDENTIALS_REMEDY: Final = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
EXPIRED_REMEDY: Final = "get new ones: AWS_SESSION_TOKEN with its two keys, or `aws sso login`"

_TRY_AGAIN = {
    "RequestTimeout",
    "BadDigest",
    "IncompleteBody",
    "OperationAborted",
    "XAmzContentSHA256Mismatch",
}
_BAD_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
_CLOCK = {"RequestTimeTooSkewed", "RequestInTheFuture"}
# For each operation, a key that every successful S3 answer has, and that no web page with the status 200 has.
_NEEDED = {
    "GetObject": "ETag",
    "HeadObject": "ETag",
    "PutObject": "ETag",
    "ListObjectsV2": "IsTruncated",
}
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')


class NotImplementedThere(StoreConfigError):
    """The server does not support the request."""


class CredentialsExpired(StoreConfigError):
    """The credentials have expired.

    A repetition succeeds if the user has put new credentials in the same place.
    """


class WebPage(StoreUnavailable):
    """A proxy or a login page has answered instead of the server, or the address is no S3 server."""


class Failure(NamedTuple):
    """An answer that reports a failure."""

    code: str  # S3's error code; empty if the answer has none
    status: int  # the HTTP status
    headers: Mapping[str, str]  # the values by lower-case header name
    message: str

    @classmethod
    def of(cls, response: Mapping[str, Any], message: str) -> Self:
        """Builds a Failure from boto3's error response."""
        metadata = response.get("ResponseMetadata", {})
        return cls(
            code=response.get("Error", {}).get("Code", ""),
            status=metadata.get("HTTPStatusCode", 0),
            headers=metadata.get("HTTPHeaders", {}),
            message=message,
        )


def is_web_page(operation: str, answer: Mapping[str, Any]) -> bool:
    """Whether a successful answer to `operation` (boto3's name) is not an S3 answer."""
    needed = _NEEDED.get(operation)
    if needed:
        return needed not in answer
    metadata = answer.get("ResponseMetadata", {})
    # an answer with the status 204 has no content, so it is not a web page
    return _is_html(metadata) and metadata.get("HTTPStatusCode") != 204


def differs(body: bytes, answer: Mapping[str, Any]) -> bool:
    """Whether the MD5 of a body differs from its ETag. False if the ETag cannot be the content's MD5: the
    object was uploaded in parts, or encrypted with a key of the user.

    Some servers compute all ETags in another way. There, True does not mean that the body is damaged.
    """
    if answer.get("SSECustomerAlgorithm") or answer.get("ServerSideEncryption", "AES256") != "AES256":
        return False
    digest = _MD5.fullmatch(answer["ETag"])
    return digest is not None and hashlib.md5(body, usedforsecurity=False).hexdigest() != digest[1]


def failure_of(failure: Failure, key: str, place: str) -> ToyganError:
    """Returns the error for a failed call about the object `key`. `place` names the server in the message."""
    code, status, message = failure.code, failure.status, failure.message
    if status == 412 or code == "ConditionalRequestConflict":
        return Conflict(key)
    if code in _CLOCK:
        return StoreConfigError(
            f"{place}: this machine's clock is {_skew(failure.headers)} the server's; set this machine's "
            "clock and run again"
        )
    if status == 501:
        return NotImplementedThere(f"{place}: {message}")
    if status >= 500 or status in (408, 429) or code in _TRY_AGAIN or "Throttl" in code:
        return StoreUnavailable(f"{place}: {message}")
    if _is_html({"HTTPHeaders": failure.headers}):
        return WebPage(f"{place} answered {status} with a web page")
    if status == 404:
        return ObjectNotFound(key)
    if code in _EXPIRED:
        return CredentialsExpired(f"{place}: the credentials have expired ({message}); {EXPIRED_REMEDY}")
    if code in _BAD_CREDENTIALS or status == 401:
        return StoreConfigError(f"{place} refused the credentials: {message}; {CREDENTIALS_REMEDY}")
    if status == 403:
        return AccessRefused(
            f"{place}: {message}; {CREDENTIALS_REMEDY}: they must allow get, put, delete and list"
        )
    return StoreConfigError(f"{place}: {message}")


def no_s3(failure: ToyganError) -> StoreConfigError:
    """Returns the error for an address that has answered with web pages only."""
    return StoreConfigError(
        f"{failure}: the server does not speak S3; check AWS_ENDPOINT_URL (a console or a login page has "
        "another address than the API)"
    )


def _is_html(metadata: Mapping[str, Any]) -> bool:
    headers = metadata.get("HTTPHeaders", {})
    return str(headers.get("content-type", "")).lower().startswith("text/html")


def _skew(headers: Mapping[str, str]) -> str:
    """Describes how far this machine's clock is from the server's, by the date of the server's answer."""
    try:
        ahead_s = (datetime.now(UTC) - parsedate_to_datetime(headers["date"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return "too far from"
    if abs(ahead_s) < 60:  # A small difference is not the reason: the date may come from a proxy's clock.
        return "too far from"
    return f"{abs(ahead_s) / 60:,.0f} minutes {'ahead of' if ahead_s > 0 else 'behind'}"
