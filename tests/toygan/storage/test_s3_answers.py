"""What answers of S3 servers, and of those that stand in their way, mean."""

import hashlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toygan.errors import (
    AccessRefused,
    BadInput,
    Conflict,
    ObjectNotFound,
    StoreConfigError,
    StoreUnavailable,
    ToyganError,
)
from toygan.storage.s3_answers import CredentialsExpired, Failure, differs, failure_of, is_web_page

HTML = {"content-type": "text/html; charset=utf-8"}
XML = {"content-type": "application/xml"}


def failure(code: str, status: int, headers: dict[str, str] = XML) -> ToyganError:
    return failure_of(Failure(code, status, headers, "reason"), "a/b", "s3://shop at http://here")


@pytest.mark.parametrize(
    ("code", "status", "headers", "kind", "said"),
    [
        ("RequestTimeTooSkewed", 403, XML, StoreConfigError, "set this machine's clock"),
        ("RequestInTheFuture", 400, XML, StoreConfigError, "set this machine's clock"),
        ("ExpiredToken", 400, XML, CredentialsExpired, "have expired .* AWS_SESSION_TOKEN"),
        ("TokenRefreshRequired", 400, XML, CredentialsExpired, "aws sso login"),
        ("InvalidAccessKeyId", 403, XML, StoreConfigError, "check AWS_ACCESS_KEY_ID"),
        ("AccessDenied", 403, XML, AccessRefused, "get, put, delete and list"),
        ("403", 403, HTML, StoreUnavailable, "answered 403 with a web page"),
        ("404", 404, HTML, StoreUnavailable, "answered 404 with a web page"),
        ("NoSuchKey", 404, XML, ObjectNotFound, "a/b"),
        ("PreconditionFailed", 412, HTML, Conflict, "a/b"),
        ("SlowDown", 503, XML, StoreUnavailable, "reason"),
        ("RequestTimeout", 400, XML, StoreUnavailable, "reason"),
    ],
)
def test_each_failure_has_its_remedy(
    code: str, status: int, headers: dict[str, str], kind: type[ToyganError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        raise failure(code, status, headers)


@pytest.mark.parametrize(
    ("minutes", "said"),
    [(-123, "123 minutes ahead of"), (17, "17 minutes behind"), (0, "too far from"), (None, "too far from")],
)
def test_a_clock_that_is_wrong_is_said_by_how_much(minutes: int | None, said: str) -> None:
    headers = dict(XML)
    if minutes is not None:
        headers["date"] = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes))
    assert said in str(failure("RequestTimeTooSkewed", 403, headers))


@given(st.text(max_size=20), st.integers(300, 599), st.sampled_from([HTML, XML, {}]))
def test_every_failure_has_a_name(code: str, status: int, headers: dict[str, str]) -> None:
    assert isinstance(failure(code, status, headers), BadInput | StoreUnavailable | ObjectNotFound | Conflict)


@pytest.mark.parametrize(
    ("operation", "answer"),
    [("GetObject", "ETag"), ("HeadObject", "ETag"), ("PutObject", "ETag"), ("ListObjectsV2", "IsTruncated")],
)
def test_a_good_answer_says_what_s3_says(operation: str, answer: str) -> None:
    headers = {"ResponseMetadata": {"HTTPHeaders": HTML}}
    assert not is_web_page(operation, {answer: False, **headers})
    assert is_web_page(operation, headers)
    assert is_web_page("DeleteObject", headers)
    assert not is_web_page("DeleteObject", {})


@pytest.mark.parametrize(
    ("answer", "is_compared"),
    [
        ({}, True),
        ({"ServerSideEncryption": "AES256"}, True),
        ({"ServerSideEncryption": "aws:kms"}, False),
        ({"SSECustomerAlgorithm": "AES256"}, False),
        ({"ETag": '"0123456789abcdef0123456789abcdef-2"'}, False),
        ({"ETag": "W/x"}, False),
    ],
)
def test_bodies_are_compared_with_etags_that_are_md5(answer: dict[str, Any], is_compared: bool) -> None:
    etag = f'"{hashlib.md5(b"1").hexdigest()}"'
    assert not differs(b"1", {"ETag": etag, **answer})
    assert differs(b"2", {"ETag": etag, **answer}) == is_compared
