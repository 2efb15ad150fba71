"""A store in a bucket of any server with the S3 protocol."""

import base64
import hashlib
import logging
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
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
    BadInput,
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
    NotImplementedThere,
    WebPage,
    differs,
    failure_of,
    is_web_page,
    no_s3,
)
from toygan.storage.store import TMP_PREFIX, ObjectInfo, check_key, is_hidden, named_info
from toygan.uris import refuse_credentials

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

PATIENCE_S = 60.0
_STRANGER_PATIENCE_S = 5.0  # for an address that has never given an S3 answer
_CLIENT_CONFIG = Config(
    max_pool_connections=32,
    connect_timeout=10,
    read_timeout=30,
    tcp_keepalive=True,
    retries={"mode": "standard", "total_max_attempts": 3},
    # many servers other than AWS's do not support the newer default checksums; all support Content-MD5
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)

_PLAIN = "application/octet-stream"
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")


class _NoBody(ObjectNotFound):
    """A HEAD request got 404 and text/html: from a web page, or from an S3 server that labels it so."""


class S3Store:
    """Objects in a bucket below a prefix.

    Server, region and credentials come from the usual AWS places (AWS_ENDPOINT_URL, AWS_REGION, AWS_PROFILE,
    AWS_ACCESS_KEY_ID, ~/.aws, ...), which are read at the first call. A call with a temporary failure (a
    dropped connection, a time-out, a 5xx answer, throttling) is repeated with growing pauses for up to
    `patience_s`. Repetition is harmless, because every call writes or removes one whole object under a fixed
    key. There is one exception: if the answer to a successful put_if is lost, its repetition raises Conflict.
    """

    def __init__(self, bucket: str, prefix: str = "", *, patience_s: float = PATIENCE_S) -> None:
        prefix = prefix.strip("/")
        if not _BUCKET.fullmatch(bucket):
            raise StoreConfigError(
                f"{bucket!r} cannot be a bucket's name; write the store as s3://BUCKET/PREFIX"
            )
        if prefix:
            try:
                check_key(prefix)
            except BadInput as error:
                raise StoreConfigError(f"s3://{bucket}/{prefix}: {error}") from None
        self._bucket = bucket
        self._prefix = prefix + "/" if prefix else ""
        self._patience_s = patience_s
        self._lock = threading.Lock()
        self._made: S3Client | None = None
        self._has_answered = False
        self._has_other_etags = False

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put(
        self,
        key: str,
        data: bytes,
        *,
        content_type: str = "application/octet-stream",
        cache_control: str | None = None,
    ) -> None:
        """Uploads in one request; the server refuses a body that was damaged in transit."""
        self._upload(key, data, content_type, {"CacheControl": cache_control} if cache_control else {})

    def get(self, key: str) -> bytes:
        """Downloads the whole object; raises ObjectNotFound."""
        return self._download(key)[0]

    def exists(self, key: str) -> bool:
        """Whether an object exists under `key`."""
        try:
            self.size(key)
        except ObjectNotFound:
            self._require_bucket()
            return False
        return True

    def size(self, key: str) -> int:
        """Returns the Content-Length of the object; raises ObjectNotFound."""
        full = self._full(key)
        try:
            return self._repeat(
                lambda client: client.head_object(Bucket=self._bucket, Key=full)["ContentLength"], key
            )
        except _NoBody:
            infos, _ = self._page(full, None)  # a web page cannot pass as a listing
            for info in infos:
                if info.key == full:
                    return info.size
            raise ObjectNotFound(key) from None

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yields the objects with keys that start with `prefix`, in the server's order: S3 sorts by key."""
        return (info for info in self.list_all(prefix) if info.problem is None)

    def list_all(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Like `list`, and also yields the objects of other programs with names that are no valid keys."""
        token: str | None = None
        last = ""
        while True:
            found, token = self._page(self._prefix + prefix, token)
            for info in found:
                key = info.key.removeprefix(self._prefix)
                # rclone lists an object twice while it is being replaced
                if key != last and not is_hidden(key, prefix):
                    yield named_info(key, info.size)
                last = key
            if not token:
                return

    def delete(self, key: str) -> None:
        """Removes the object; the answer 'not found' counts as success."""
        full = self._full(key)
        try:
            self._repeat(lambda client: client.delete_object(Bucket=self._bucket, Key=full), key)
        except ObjectNotFound:
            return

    def get_versioned(self, key: str) -> tuple[bytes, str]:
        """Downloads the whole object and returns it with its ETag as its version."""
        return self._download(key)

    def put_if(
        self, key: str, data: bytes, version: str | None, *, content_type: str = "application/octet-stream"
    ) -> None:
        """Uploads under the condition If-Match or If-None-Match; raises Conflict."""
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        if not self.has_conditional_writes:
            condition = {}
            if self._etag(key) != version:
                raise Conflict(key)
        try:
            self._upload(key, data, content_type, condition)
        except ObjectNotFound:  # the condition was If-Match, and another process removed the object
            raise Conflict(key) from None

    def presigned(self, key: str, expires_s: int) -> str:
        """Signs a URL with the credentials of this process, without asking the server."""
        where = {"Bucket": self._bucket, "Key": self._full(key)}
        return self._repeat(
            lambda client: client.generate_presigned_url("get_object", Params=where, ExpiresIn=expires_s), key
        )

    @cached_property
    def has_conditional_writes(self) -> bool:
        """Whether the server honours the conditions If-Match and If-None-Match.

        Tests it with a temporary object, because servers without the conditions often accept every upload.
        """
        key = f"{TMP_PREFIX}.conditions/{secrets.token_hex(16)}"
        self._upload(key, b"1", _PLAIN, {})
        try:
            works = (
                self._is_refused(key, {"IfNoneMatch": "*"})
                and self._is_refused(key, {"IfMatch": f'"{"0" * 32}"'})
                and not self._is_refused(key, {"IfMatch": self._etag(key)})
            )
        except NotImplementedThere:
            works = False
        self.delete(key)
        return works

    def _is_refused(self, key: str, condition: Mapping[str, Any]) -> bool:
        try:
            self._upload(key, b"1", _PLAIN, condition)
        except Conflict:
            return True
        return False

    def _etag(self, key: str) -> str | None:
        full = self._full(key)
        try:
            return self._repeat(lambda client: client.head_object(Bucket=self._bucket, Key=full)["ETag"], key)
        except ObjectNotFound:
            return None

    def _upload(self, key: str, data: bytes, content_type: str, more: Mapping[str, Any]) -> None:
        full = self._full(key)
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()

        def call(client: "S3Client") -> None:
            client.put_object(
                Bucket=self._bucket,
                Key=full,
                Body=data,
                ContentType=content_type,
                ContentMD5=digest,
                **more,
            )

        self._repeat(call, key)

    def _download(self, key: str) -> tuple[bytes, str]:
        """Returns the object and its ETag.

        A body that does not match its ETag is fetched again. If the same body and ETag come twice, the body
        is right: the ETags of this server are no MD5, and are not compared any more.
        """
        full, seen = self._full(key), set[tuple[bytes, str]]()

        def call(client: "S3Client") -> tuple[bytes, str]:
            answer = client.get_object(Bucket=self._bucket, Key=full)
            body, etag = answer["Body"].read(), answer["ETag"]
            if not self._has_other_etags and differs(body, answer):
                found = (hashlib.sha256(body).digest(), etag)
                self._has_other_etags = found in seen
                seen.add(found)
                if not self._has_other_etags:
                    raise StoreUnavailable(f"{self._place()}: the answer for {key} is not the object")
            return body, etag

        return self._repeat(call, key)

    def _full(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _page(self, full_prefix: str, token: str | None) -> tuple[tuple[ObjectInfo, ...], str | None]:
        def call(client: "S3Client") -> tuple[tuple[ObjectInfo, ...], str | None]:
            page: Any = {"ContinuationToken": token} if token else {}
            answer = client.list_objects_v2(Bucket=self._bucket, Prefix=full_prefix, **page)
            infos = tuple(ObjectInfo(item["Key"], item["Size"]) for item in answer.get("Contents", ()))
            return infos, answer.get("NextContinuationToken") if answer["IsTruncated"] else None

        return self._repeat(call, full_prefix)

    def _client(self) -> "S3Client":
        with self._lock:
            if self._made is None:
                try:
                    self._made = _make_client()
                except ValueError as error:  # the endpoint URL is invalid
                    raise StoreConfigError(f"{self.uri}: {error}; check AWS_ENDPOINT_URL") from None
                self._made.meta.events.register("after-call.s3", _refuse_web_pages)
            return self._made

    def _repeat(self, call: Callable[["S3Client"], _T], key: str) -> _T:
        """Returns the result of `call`; repeats temporary failures while there is patience."""
        retries, has_renewed = Retries(_log), False
        while True:
            try:
                result = call(self._client())
            except (BotoCoreError, ClientError, _WebPageAnswer, StoreUnavailable) as error:
                failure = self._translated(error, key)
                if not isinstance(failure, (ObjectNotFound, Conflict)):  # these are answers, not failures
                    STORE_FAILURES.labels(type(failure).__name__).inc()
                if isinstance(failure, CredentialsExpired) and not has_renewed:
                    has_renewed = True  # the user's files may hold new credentials by now
                    self._made = None
                    continue
                # Without any S3 answer so far, the address is most likely wrong.
                is_strange = isinstance(failure, WebPage) and not self._has_answered
                patience_s = min(self._patience_s, _STRANGER_PATIENCE_S) if is_strange else self._patience_s
                if not retries.pause(failure, patience_s):
                    raise (no_s3(failure) if is_strange else failure) from error
            else:
                self._has_answered = True
                return result

    def _require_bucket(self) -> None:
        """Raises StoreConfigError if there is no bucket, or no S3 server.

        The answer to a HEAD request is the same for a missing object, a missing bucket and a web page.
        """
        if not self._has_answered:
            self._page(self._prefix, None)

    def _no_bucket(self) -> str:
        return f"{self._place()}: there is no bucket {self._bucket!r}; create it, or correct the URI"

    def _place(self) -> str:
        endpoint = self._made.meta.endpoint_url if self._made else "the configured endpoint"
        return f"{self.uri} at {endpoint}"

    def _translated(self, error: Exception, key: str) -> ToyganError:
        match error:
            case StoreUnavailable():
                return error
            case _WebPageAnswer() | ResponseParserError():
                return WebPage(f"{self._place()} answered with a web page")
            case ClientError():
                failure = Failure.of(error.response, str(error))
                if failure.code == "NoSuchBucket":
                    return StoreConfigError(self._no_bucket())
                found = failure_of(failure, key, self._place())
                is_head = error.operation_name.startswith("Head") and failure.status == 404
                return _NoBody(key) if is_head and isinstance(found, WebPage) else found
            case HTTPClientError() | ConnectionFailed() | IncompleteReadError() if (
                "CERTIFICATE_VERIFY_FAILED" not in str(error)
            ):
                return StoreUnavailable(f"{self._place()}: {error}")
            case SSOError() | TokenRetrievalError():
                return CredentialsExpired(f"{self.uri}: {error}; {EXPIRED_REMEDY}")
            case NoCredentialsError() | PartialCredentialsError() | ProfileNotFound():
                return StoreConfigError(f"{self.uri}: {error}; {CREDENTIALS_REMEDY}")
        return StoreConfigError(f"{self.uri}: {error}; check the URI and the AWS settings")


class _WebPageAnswer(Exception):
    """The answer to a call is not an S3 answer."""


def _refuse_web_pages(http_response: Any, parsed: Mapping[str, Any], model: Any, **_: object) -> None:
    """Raises _WebPageAnswer if a successful answer is not from S3; handles botocore's event `after-call`."""
    if http_response.status_code < 300 and is_web_page(model.name, parsed):
        raise _WebPageAnswer


def _make_client() -> "S3Client":
    """Creates a client with the user's AWS settings, and with defaults that suit servers of any make."""
    session = boto3.Session()
    # boto3 reads AWS_DEFAULT_REGION only; other AWS tools, and containers on AWS, use AWS_REGION
    region = session.region_name or os.environ.get("AWS_REGION") or "us-east-1"
    client = session.client("s3", region_name=region, config=_CLIENT_CONFIG)
    refuse_credentials(client.meta.endpoint_url)  # error messages name this URL
    options: dict[str, str] = getattr(client.meta.config, "s3", None) or {}
    if "addressing_style" in options or ".amazonaws.com" in client.meta.endpoint_url:
        return client
    # servers other than AWS's seldom have a host name for each bucket
    by_path = _CLIENT_CONFIG.merge(Config(s3={"addressing_style": "path"}))
    return session.client("s3", region_name=region, config=by_path)
