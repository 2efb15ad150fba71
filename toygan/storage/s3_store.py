"""A store in a bucket of any server with the S3 protocol."""

import base64
import hashlib
import re
import secrets
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from toygan.errors import (
    AccessRefused,
    BadInput,
    Conflict,
    ObjectNotFound,
    StoreConfigError,
    StoreUnavailable,
)
from toygan.storage.s3 import PATIENCE_S, NoBody, S3Connection
from toygan.storage.s3_answers import NotImplementedThere, differs
from toygan.storage.store import TMP_PREFIX, ObjectInfo, OnRefused, check_key, is_hidden, named_info

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PLAIN = "application/octet-stream"
_OF_NO_OBJECT = f'"{"0" * 32}"'  # an ETag
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")


class S3Store:
    """Objects in a bucket below a prefix.

    Calls with a temporary failure are repeated (`toygan.storage.s3`). A repetition is harmless, because every
    call writes or removes one whole object under a fixed key. The only exception is put_if: if it succeeds
    but its answer is lost, the repetition raises Conflict.
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
        self._connection = S3Connection(bucket, self.uri, patience_s=patience_s)
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
            return self._connection.call(
                lambda client: client.head_object(Bucket=self._bucket, Key=full)["ContentLength"], key
            )
        except NoBody:
            infos, _ = self._page(full, None)  # unlike HEAD, a listing detects a web page
            for info in infos:
                if info.key == full:
                    return info.size
            raise ObjectNotFound(key) from None
        except AccessRefused:
            self._page(full, None)  # unlike HEAD, a listing says whether the credentials are wrong
            raise

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Yields the objects with keys that start with `prefix`, in the server's order: S3 sorts by key."""
        return (info for info in self.list_all(prefix) if info.problem is None)

    def list_all(self, prefix: str = "", *, on_refused: OnRefused | None = None) -> Iterator[ObjectInfo]:
        """Like `list`, and also yields the objects of other programs with names that are not valid keys.

        A bucket has no folders, so `on_refused` is not called.
        """
        token: str | None = None
        last = ""
        while True:
            found, token = self._page(self._prefix + prefix, token)
            for info in found:
                key = info.key.removeprefix(self._prefix)
                # rclone's server lists an object twice while it is being replaced
                if key != last and not is_hidden(key, prefix):
                    yield named_info(key, info.size)
                last = key
            if not token:
                return

    def delete(self, key: str) -> None:
        """Removes the object; the answer 'not found' counts as success."""
        full = self._full(key)
        try:
            self._connection.call(lambda client: client.delete_object(Bucket=self._bucket, Key=full), key)
        except ObjectNotFound:
            return

    def get_versioned(self, key: str) -> tuple[bytes, str]:
        """Downloads the whole object and returns it with its ETag as its version."""
        return self._download(key)

    def put_if(
        self, key: str, data: bytes, version: str | None, *, content_type: str = "application/octet-stream"
    ) -> str:
        """Uploads under the condition If-Match or If-None-Match; raises Conflict."""
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        if not self.has_conditional_writes:
            condition = {}
            if self._etag(key) != version:
                raise Conflict(key)
        try:
            return self._upload(key, data, content_type, condition)
        except ObjectNotFound:  # with If-Match: another process has removed the object
            raise Conflict(key) from None

    def presigned(self, key: str, expires_s: int) -> str:
        """Signs a URL with the credentials of this process, without asking the server."""
        where = {"Bucket": self._bucket, "Key": self._full(key)}
        return self._connection.call(
            lambda client: client.generate_presigned_url("get_object", Params=where, ExpiresIn=expires_s), key
        )

    @cached_property
    def has_conditional_writes(self) -> bool:
        """Whether the server honours the conditions If-Match and If-None-Match.

        Tests it with a temporary object, because servers without the conditions often accept every upload.
        """
        key = f"{TMP_PREFIX}.conditions/{secrets.token_hex(16)}"
        etag = self._upload(key, b"1", _PLAIN, {})
        try:
            works = (
                self._is_refused(key, {"IfNoneMatch": "*"})
                and self._is_refused(key, {"IfMatch": _OF_NO_OBJECT})
                and not self._is_refused(key, {"IfMatch": etag})
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
            return self._connection.call(
                lambda client: client.head_object(Bucket=self._bucket, Key=full)["ETag"], key
            )
        except ObjectNotFound:
            return None

    def _upload(self, key: str, data: bytes, content_type: str, more: Mapping[str, Any]) -> str:
        """Returns the object's ETag. If the server does not send it, returns an ETag that no object has."""
        full = self._full(key)
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()

        def call(client: "S3Client") -> str:
            answer = client.put_object(
                Bucket=self._bucket,
                Key=full,
                Body=data,
                ContentType=content_type,
                ContentMD5=digest,
                **more,
            )
            return answer.get("ETag", _OF_NO_OBJECT)

        return self._connection.call(call, key)

    def _download(self, key: str) -> tuple[bytes, str]:
        """Returns the object and its ETag.

        A body whose MD5 is not its ETag is downloaded again. If the same body and ETag come a second time,
        the body is right, and the server's ETags are not MD5 sums. From then on, bodies and ETags of this
        server are not compared.
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
                    raise StoreUnavailable(
                        f"{self._connection.place}: the body of the answer for {key} is damaged"
                    )
            return body, etag

        return self._connection.call(call, key)

    def _full(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _page(self, full_prefix: str, token: str | None) -> tuple[tuple[ObjectInfo, ...], str | None]:
        def call(client: "S3Client") -> tuple[tuple[ObjectInfo, ...], str | None]:
            page: Any = {"ContinuationToken": token} if token else {}
            answer = client.list_objects_v2(Bucket=self._bucket, Prefix=full_prefix, **page)
            infos = tuple(ObjectInfo(item["Key"], item["Size"]) for item in answer.get("Contents", ()))
            return infos, answer.get("NextContinuationToken") if answer["IsTruncated"] else None

        return self._connection.call(call, full_prefix)

    def _require_bucket(self) -> None:
        """Raises StoreConfigError if the bucket is missing or the server is not an S3 server.

        A HEAD request cannot tell, because its answer is the same for a missing object, for a missing bucket
        and from a web page.
        """
        if not self._connection.has_answered:
            self._page(self._prefix, None)
