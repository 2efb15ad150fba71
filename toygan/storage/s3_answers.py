"""What an answer of an S3 server means: is it one at all, is it the object, what can the user do about it."""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple, Self

from toygan.errors import Conflict, ObjectNotFound, StoreConfigError, StoreUnavailable, ToyganError

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
# What each good answer holds; a web page that comes in its place with the status 200 does not.
_NEEDED = {
    "GetObject": "ETag",
    "HeadObject": "ETag",
    "PutObject": "ETag",
    "ListObjectsV2": "IsTruncated",
}
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')


class NotImplementedThere(StoreConfigError):
    """The server does not know what was asked of it."""


class CredentialsExpired(StoreConfigError):
    """They were good once: the same call may succeed with those that lie in their place now."""


class WebPage(StoreUnavailable):
    """A proxy or a login page has answered in the server's place, or no server speaks S3 there."""


class Failure(NamedTuple):
    """An answer that is no success."""

    code: str  # of S3, empty where there is none
    status: int  # of HTTP
    headers: Mapping[str, str]  # by lower-case name
    message: str

    @classmethod
    def of(cls, response: Mapping[str, Any], message: str) -> Self:
        """From what boto3 made of the answer."""
        metadata = response.get("ResponseMetadata", {})
        return cls(
            code=response.get("Error", {}).get("Code", ""),
            status=metadata.get("HTTPStatusCode", 0),
            headers=metadata.get("HTTPHeaders", {}),
            message=message,
        )


def is_web_page(operation: str, answer: Mapping[str, Any]) -> bool:
    """Whether a successful answer to `operation`, as boto3 names it, is none of S3."""
    needed = _NEEDED.get(operation)
    if needed:
        return needed not in answer
    metadata = answer.get("ResponseMetadata", {})
    return _is_html(metadata) and metadata.get("HTTPStatusCode") != 204  # 204 has no content, so no page


def differs(body: bytes, answer: Mapping[str, Any]) -> bool:
    """Whether a body is not that of the object by its ETag, where that may be the MD5 of the content.

    It is not for objects that were uploaded in parts or encrypted with a key of their own, nor on servers
    that make their ETags otherwise.
    """
    if answer.get("SSECustomerAlgorithm") or answer.get("ServerSideEncryption", "AES256") != "AES256":
        return False
    digest = _MD5.fullmatch(answer["ETag"])
    return digest is not None and hashlib.md5(body, usedforsecurity=False).hexdigest() != digest[1]


def failure_of(failure: Failure, key: str, place: str) -> ToyganError:
    """The error that a failed call for `key` at `place` becomes."""
    code, status, told = failure.code, failure.status, failure.message
    if status == 412 or code == "ConditionalRequestConflict":
        return Conflict(key)
    if code in _CLOCK:
        return StoreConfigError(
            f"{place}: this machine's clock is {_skew(failure.headers)} the server's; set this machine's "
            "clock and run again"
        )
    if status == 501:
        return NotImplementedThere(f"{place}: {told}")
    if status >= 500 or status in (408, 429) or code in _TRY_AGAIN or "Throttl" in code:
        return StoreUnavailable(f"{place}: {told}")
    if _is_html({"HTTPHeaders": failure.headers}):
        return WebPage(f"{place} answered {status} with a web page")
    if status == 404:
        return ObjectNotFound(key)
    if code in _EXPIRED:
        return CredentialsExpired(f"{place}: the credentials have expired ({told}); {EXPIRED_REMEDY}")
    if code in _BAD_CREDENTIALS or status == 401:
        return StoreConfigError(f"{place} refused the credentials: {told}; {CREDENTIALS_REMEDY}")
    if status == 403:
        return StoreConfigError(
            f"{place}: {told}; {CREDENTIALS_REMEDY}: they must allow get, put, delete and list"
        )
    return StoreConfigError(f"{place}: {told}")


def no_s3(failure: ToyganError) -> StoreConfigError:
    """What is to be said of an address from which nothing but web pages came."""
    return StoreConfigError(
        f"{failure}: it does not speak S3; check AWS_ENDPOINT_URL (a console or a login page has another "
        "address than the API)"
    )


def _is_html(metadata: Mapping[str, Any]) -> bool:
    headers = metadata.get("HTTPHeaders", {})
    return str(headers.get("content-type", "")).lower().startswith("text/html")


def _skew(headers: Mapping[str, str]) -> str:
    """How far this machine's clock is from the server's, by the date of its answer."""
    try:
        ahead_s = (datetime.now(UTC) - parsedate_to_datetime(headers["date"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return "too far from"
    if abs(ahead_s) < 60:  # the answer's date may be that of a proxy
        return "too far from"
    return f"{abs(ahead_s) / 60:,.0f} minutes {'ahead of' if ahead_s > 0 else 'behind'}"
