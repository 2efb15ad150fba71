"""A store in a bucket of any server that speaks S3."""

import base64
import hashlib
import logging
import os
import random
import re
import secrets
import threading
import time
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
)
from botocore.exceptions import (
    ConnectionError as ConnectionFailed,
)

from toygan.errors import (
    BadInput,
    Conflict,
    ObjectNotFound,
    StoreConfigError,
    StoreUnavailable,
    ToyganError,
)
from toygan.metrics import STORE_FAILURES
from toygan.storage.store import TMP_PREFIX, ObjectInfo, check_key, is_hidden
from toygan.uris import refuse_credentials

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

PATIENCE_S = 60.0
_LONGEST_PAUSE_S = 5.0
_POOL = 32
_CLIENT_CONFIG = Config(
    max_pool_connections=_POOL,
    connect_timeout=10,
    read_timeout=30,
    tcp_keepalive=True,
    retries={"mode": "standard", "total_max_attempts": 3},
    # the newer default checksums are unknown to many servers other than AWS's; Content-MD5 is known to all
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)

_PLAIN = "application/octet-stream"
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")
_TRY_AGAIN = {
    "RequestTimeout",
    "BadDigest",
    "IncompleteBody",
    "OperationAborted",
    "XAmzContentSHA256Mismatch",
}
_BAD_CREDENTIALS = {
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
}
_CREDENTIALS_REMEDY = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"


class _NotImplemented(StoreConfigError):
    """The server does not know what was asked of it."""


class S3Store:
    """Objects in a bucket below a prefix.

    Server, region and credentials come from the usual AWS places (AWS_ENDPOINT_URL, AWS_REGION, AWS_PROFILE,
    AWS_ACCESS_KEY_ID, ~/.aws, ...), read at the first call. A call that fails for a passing reason (a dropped
    connection, a time-out, a 5xx answer, throttling) is repeated with growing pauses until `patience_s` have
    gone by; repeating is harmless, because every call writes or removes one whole object under a fixed key.
    Only a put_if whose answer was lost, although it was carried out, meets its own object then: a Conflict.
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
        self._bucket_seen = False

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> None:
        """Upload in one request; the server refuses a body that was damaged on its way."""
        self._upload(key, data, content_type, {})

    def get(self, key: str) -> bytes:
        """Download the whole object; raises ObjectNotFound."""
        full = self._full(key)
        return self._repeat(
            lambda client: client.get_object(Bucket=self._bucket, Key=full)["Body"].read(), key
        )

    def exists(self, key: str) -> bool:
        """Whether an object lies under `key`."""
        full = self._full(key)
        try:
            self._repeat(lambda client: client.head_object(Bucket=self._bucket, Key=full), key)
        except ObjectNotFound:
            self._require_bucket()
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """The objects whose key starts with `prefix`, in the order of the server: S3 sorts by key."""
        token: str | None = None
        last = ""
        while True:
            found, token = self._page(self._prefix + prefix, token)
            for info in found:
                key = info.key.removeprefix(self._prefix)
                # rclone names an object twice while it is being replaced
                if key != last and not is_hidden(key, prefix):
                    yield ObjectInfo(key, info.size)
                last = key
            if not token:
                return

    def delete(self, key: str) -> None:
        """Remove the object; servers that answer 'not found' for a missing one are taken at their word."""
        full = self._full(key)
        try:
            self._repeat(lambda client: client.delete_object(Bucket=self._bucket, Key=full), key)
        except ObjectNotFound:
            return

    def get_versioned(self, key: str) -> tuple[bytes, str]:
        """Download the whole object; its version is its ETag."""
        full = self._full(key)

        def call(client: "S3Client") -> tuple[bytes, str]:
            answer = client.get_object(Bucket=self._bucket, Key=full)
            return answer["Body"].read(), answer["ETag"]

        return self._repeat(call, key)

    def put_if(
        self, key: str, data: bytes, version: str | None, *, content_type: str = "application/octet-stream"
    ) -> None:
        """Upload under the condition If-Match or If-None-Match; raises Conflict."""
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        if not self.has_conditional_writes:
            condition = {}
            if self._etag(key) != version:
                raise Conflict(key)
        try:
            self._upload(key, data, content_type, condition)
        except ObjectNotFound:  # If-Match, and somebody removed the object
            raise Conflict(key) from None

    @cached_property
    def has_conditional_writes(self) -> bool:
        """Whether the server refuses what it should and takes what it should.

        Asked with a temporary object, because servers without the conditions often take every upload.
        """
        key = f"{TMP_PREFIX}.conditions/{secrets.token_hex(16)}"
        self._upload(key, b"1", _PLAIN, {})
        try:
            works = (
                self._is_refused(key, {"IfNoneMatch": "*"})
                and self._is_refused(key, {"IfMatch": f'"{"0" * 32}"'})
                and not self._is_refused(key, {"IfMatch": self._etag(key)})
            )
        except _NotImplemented:
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

    def _upload(self, key: str, data: bytes, content_type: str, condition: Mapping[str, Any]) -> None:
        full = self._full(key)
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()

        def call(client: "S3Client") -> None:
            client.put_object(
                Bucket=self._bucket,
                Key=full,
                Body=data,
                ContentType=content_type,
                ContentMD5=digest,
                **condition,
            )

        self._repeat(call, key)

    def _full(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _page(self, full_prefix: str, token: str | None) -> tuple[tuple[ObjectInfo, ...], str | None]:
        def call(client: "S3Client") -> tuple[tuple[ObjectInfo, ...], str | None]:
            if token:
                answer = client.list_objects_v2(
                    Bucket=self._bucket, Prefix=full_prefix, ContinuationToken=token
                )
            else:
                answer = client.list_objects_v2(Bucket=self._bucket, Prefix=full_prefix)
            infos = tuple(ObjectInfo(item["Key"], item["Size"]) for item in answer.get("Contents", ()))
            return infos, answer.get("NextContinuationToken") if answer["IsTruncated"] else None

        return self._repeat(call, full_prefix)

    def _client(self) -> "S3Client":
        with self._lock:
            if self._made is None:
                try:
                    self._made = _make_client()
                except ValueError as error:  # an endpoint URL that is none
                    raise StoreConfigError(f"{self.uri}: {error}; check AWS_ENDPOINT_URL") from None
            return self._made

    def _repeat(self, call: Callable[["S3Client"], _T], key: str) -> _T:
        """The result of `call`; failures that may pass are repeated while there is patience."""
        deadline = time.monotonic() + self._patience_s
        pause = 0.25
        while True:
            try:
                result = call(self._client())
            except (BotoCoreError, ClientError) as error:
                failure = self._translated(error, key)
                if not isinstance(failure, (ObjectNotFound, Conflict)):  # answers, not failures
                    STORE_FAILURES.labels(type(failure).__name__).inc()
                pause = min(2 * pause, _LONGEST_PAUSE_S) * random.uniform(0.75, 1.0)
                left = deadline - time.monotonic() - pause
                if not isinstance(failure, StoreUnavailable) or left < 0:
                    raise failure from error
                _log.warning("%s; trying again for %.0f s", failure, left)
                time.sleep(pause)
            else:
                self._bucket_seen = True
                return result

    def _require_bucket(self) -> None:
        """Tell a missing bucket from a missing object: the answer to a HEAD request does not."""
        if self._bucket_seen:
            return
        try:
            self._repeat(lambda client: client.head_bucket(Bucket=self._bucket), "")
        except ObjectNotFound:
            raise StoreConfigError(self._no_bucket()) from None

    def _no_bucket(self) -> str:
        return (
            f"{self.uri}: there is no bucket {self._bucket!r} at {self._where()}; make it, or correct the URI"
        )

    def _where(self) -> str:
        return self._made.meta.endpoint_url if self._made else "the configured endpoint"

    def _translated(self, error: Exception, key: str) -> ToyganError:
        place = f"{self.uri} at {self._where()}"
        match error:
            case ClientError():
                return self._answer(error, key)
            case HTTPClientError() | ConnectionFailed() | IncompleteReadError() if (
                "CERTIFICATE_VERIFY_FAILED" not in str(error)
            ):
                return StoreUnavailable(f"{place}: {error}")
            case NoCredentialsError() | PartialCredentialsError() | ProfileNotFound():
                return StoreConfigError(f"{self.uri}: {error}; {_CREDENTIALS_REMEDY}")
        return StoreConfigError(f"{self.uri}: {error}; check the URI and the AWS settings")

    def _answer(self, error: ClientError, key: str) -> ToyganError:
        """What an answer of the server that is not a success means for the user."""
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = error.response.get("Error", {}).get("Code", "")
        place = f"{self.uri} at {self._where()}"
        if code == "NoSuchBucket":
            return StoreConfigError(self._no_bucket())
        if status == 412 or code == "ConditionalRequestConflict":
            return Conflict(key)
        if status == 501:
            return _NotImplemented(f"{place}: {error}")
        if status >= 500 or status in (408, 429) or code in _TRY_AGAIN or "Throttl" in code:
            return StoreUnavailable(f"{place}: {error}")
        if status == 404:
            return ObjectNotFound(key)
        if code in _BAD_CREDENTIALS or status == 401:
            return StoreConfigError(f"{place} refused the credentials: {error}; {_CREDENTIALS_REMEDY}")
        if status == 403:
            return StoreConfigError(
                f"{place}: {error}; {_CREDENTIALS_REMEDY}: they must allow get, put, delete and list"
            )
        return StoreConfigError(f"{place}: {error}")


def _make_client() -> "S3Client":
    """A client as the user's AWS settings want it, with what those leave open set for servers of any make."""
    session = boto3.Session()
    # boto3 knows AWS_DEFAULT_REGION only; other AWS tools, and containers on AWS, go by AWS_REGION
    region = session.region_name or os.environ.get("AWS_REGION") or "us-east-1"
    client = session.client("s3", region_name=region, config=_CLIENT_CONFIG)
    refuse_credentials(client.meta.endpoint_url)  # it is named wherever something goes wrong
    options: dict[str, str] = getattr(client.meta.config, "s3", None) or {}
    if "addressing_style" in options or ".amazonaws.com" in client.meta.endpoint_url:
        return client
    # a server elsewhere seldom has a host name for each bucket
    by_path = _CLIENT_CONFIG.merge(Config(s3={"addressing_style": "path"}))
    return session.client("s3", region_name=region, config=by_path)
