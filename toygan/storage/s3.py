"""Requests to any server with the S3 protocol."""

import logging
import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import (
    ConnectionError as ConnectionFailed,
)
from botocore.parsers import ResponseParserError

from toygan.errors import (
    Conflict,
    ObjectNotFound,
    StoreConfigError,
    StoreUnavailable,
    ToyganError,
)
from toygan.metrics import STORE_FAILURES
from toygan.storage.retries import Retries
from toygan.storage.s3_answers import (
    CREDENTIALS_REMEDY,
    EXPIRED_REMEDY,
    CredentialsExpired,
    Failure,
    WebPage,
    failure_of,
    is_web_page,
    no_s3,
)
from toygan.uris import refuse_credentials

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

PATIENCE_S = 60.0
_STRANGER_PATIENCE_S = 5.0  # the patience in seconds with an address that has never given an S3 answer
_CLIENT_CONFIG = Config(
    max_pool_connections=32,
    connect_timeout=10,
    read_timeout=30,
    tcp_keepalive=True,
    retries={"mode": "standard", "total_max_attempts": 3},
    # Many servers other than AWS's do not support boto3's default checksums. All support Content-MD5.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    # In some regions boto3 signs URLs by version 2, which most servers, and many regions of AWS, refuse.
    signature_version="s3v4",
)


class NoBody(ObjectNotFound):
    """A HEAD request got the status 404 and text/html.

    A web server answers so, but some S3 servers do, too.
    """


class S3Connection:
    """Calls the server of a bucket.

    Server, region and credentials come from the usual AWS places (AWS_ENDPOINT_URL, AWS_REGION, AWS_PROFILE,
    AWS_ACCESS_KEY_ID, ~/.aws, ...), which are read at the first call. A call with a temporary failure (a
    dropped connection, a time-out, a 5xx answer, throttling) is repeated with growing pauses for up to
    `patience_s`.
    """

    def __init__(self, bucket: str, uri: str, *, patience_s: float) -> None:
        self.has_answered = False  # whether the server has given any S3 answer yet
        self._is_strange = False  # whether the server sent only web pages for _STRANGER_PATIENCE_S
        self._bucket = bucket
        self._uri = uri
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._made: S3Client | None = None

    def _client(self) -> "S3Client":
        with self._lock:
            if self._made is None:
                try:
                    self._made = _make_client()
                except ValueError as error:  # the endpoint URL is invalid
                    raise StoreConfigError(f"{self._uri}: {error}; check AWS_ENDPOINT_URL") from None
                self._made.meta.events.register("after-call.s3", _refuse_web_pages)
            return self._made

    def call(self, request: Callable[["S3Client"], _T], key: str) -> _T:
        """Returns the result of `request`. Repeats a call that fails temporarily, for up to `patience_s`."""
        retries, has_renewed = Retries(_log), False
        while True:
            try:
                result = request(self._client())
            except (BotoCoreError, ClientError, _WebPageAnswer, StoreUnavailable) as error:
                failure = self._translated(error, key)
                if not isinstance(failure, (ObjectNotFound, Conflict)):  # these are answers, not failures
                    STORE_FAILURES.labels(type(failure).__name__).inc()
                if isinstance(failure, CredentialsExpired) and not has_renewed:
                    has_renewed = True  # the user's AWS files may hold new credentials in the meantime
                    self._made = None
                    continue
                if isinstance(failure, WebPage) and not self.has_answered:
                    # The address is most likely wrong. Further calls fail at once and log nothing.
                    patience_s = min(self._patience_s, _STRANGER_PATIENCE_S)
                    if self._is_strange or not retries.pause(failure, patience_s, is_silent=True):
                        self._is_strange = True
                        raise no_s3(failure) from error
                elif not retries.pause(failure, self._patience_s):
                    raise failure from error
            else:
                self.has_answered = True
                return result

    def _no_bucket(self) -> str:
        return f"{self.place}: there is no bucket {self._bucket!r}; create it, or correct the URI"

    @property
    def place(self) -> str:
        """The URI and the endpoint, for messages."""
        endpoint = self._made.meta.endpoint_url if self._made else "the configured endpoint"
        return f"{self._uri} at {endpoint}"

    def _translated(self, error: Exception, key: str) -> ToyganError:
        match error:
            case StoreUnavailable():
                return error
            case _WebPageAnswer() | ResponseParserError():
                return WebPage(f"{self.place} answered with a web page")
            case ClientError():
                failure = Failure.of(error.response, str(error))
                if failure.code == "NoSuchBucket":
                    return StoreConfigError(self._no_bucket())
                found = failure_of(failure, key, self.place)
                is_head = error.operation_name.startswith("Head") and failure.status == 404
                return NoBody(key) if is_head and isinstance(found, WebPage) else found
            case HTTPClientError() | ConnectionFailed() | IncompleteReadError() if (
                "CERTIFICATE_VERIFY_FAILED" not in str(error)
            ):
                return StoreUnavailable(f"{self.place}: {error}")
            case SSOError() | TokenRetrievalError():
                return CredentialsExpired(f"{self._uri}: {error}; {EXPIRED_REMEDY}")
            case NoCredentialsError() | PartialCredentialsError() | ProfileNotFound():
                return StoreConfigError(f"{self._uri}: {error}; {CREDENTIALS_REMEDY}")
        return StoreConfigError(f"{self._uri}: {error}; check the URI and the AWS settings")


class _WebPageAnswer(Exception):
    """The answer to a call is not an S3 answer."""


def _refuse_web_pages(http_response: Any, parsed: Mapping[str, Any], model: Any, **_: object) -> None:
    """Raises _WebPageAnswer if a successful answer is not from S3; handles botocore's event `after-call`."""
    if http_response.status_code < 300 and is_web_page(model.name, parsed):
        raise _WebPageAnswer


def _make_client() -> "S3Client":
    """Creates a client with the user's AWS settings, and with defaults that suit all S3 servers."""
    session = boto3.Session()
    # Of the two variables, boto3 reads AWS_DEFAULT_REGION only. Other AWS tools and containers on AWS use
    # AWS_REGION.
    region = session.region_name or os.environ.get("AWS_REGION") or "us-east-1"
    client = session.client("s3", region_name=region, config=_CLIENT_CONFIG)
    refuse_credentials(client.meta.endpoint_url)  # error messages name this URL
    options: dict[str, str] = getattr(client.meta.config, "s3", None) or {}
    if "addressing_style" in options or ".amazonaws.com" in client.meta.endpoint_url:
        return client
    # Servers other than AWS's seldom have a host name for each bucket.
    by_path = _CLIENT_CONFIG.merge(Config(s3={"addressing_style": "path"}))
    return session.client("s3", region_name=region, config=by_path)
