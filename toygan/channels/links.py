"""Makes the links of feeds: from the address of the export's place, or signed by the place itself."""

import re
from typing import Final
from urllib.parse import quote, urlsplit

from toygan.channels.feeds import Urls
from toygan.errors import BadInput
from toygan.storage.store import ObjectStore
from toygan.uris import refuse_credentials

LONGEST_PRESIGNED_S: Final = 7 * 86_400  # S3 signs for a week at most
MAX_URL_LETTERS: Final = 2000
# printable ASCII without "?", "#" and what no URL may hold
_PLAIN: Final = re.compile(r"""[^\x00-\x20\x7f-\U0010ffff?#"<>\\^`{|}]+""")
_OF_A_SESSION: Final = "X-Amz-Security-Token="  # S3 adds this to links that temporary credentials sign


def make_urls(place: ObjectStore, base_url: str | None, presigned_days: float | None) -> Urls | None:
    """Returns a function that maps a key to its URL. Raises BadInput for a URL that feeds cannot hold."""
    if base_url is not None and presigned_days is not None:
        raise BadInput("give --base-url or --presigned-days, not both")
    if presigned_days is not None:
        return _signed_urls(place, presigned_days)
    if base_url is not None:
        return _public_urls(base_url)
    return None


def ends_with_session(url: str) -> bool:
    """Whether a signed link ends with the temporary credentials that signed it, maybe before its own time."""
    return _OF_A_SESSION in url


def _signed_urls(place: ObjectStore, days: float) -> Urls:
    seconds = round(days * 86_400)
    if not 0 < seconds <= LONGEST_PRESIGNED_S:
        raise BadInput("--presigned-days is more than 0 and at most 7: S3 signs for a week at most")

    def url(key: str) -> str:
        signed = place.presigned(key, seconds)
        if len(signed) > MAX_URL_LETTERS:
            remedy = "give --base-url"
            if ends_with_session(signed):
                remedy = "use keys without AWS_SESSION_TOKEN, which is in every link, or give --base-url"
            raise BadInput(f"the signed link of {key} has over {MAX_URL_LETTERS} characters; {remedy}")
        return signed

    return url


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:  # half an IPv6 address, or a port that is no number up to 65535
        return False
    is_plain = bool(_PLAIN.fullmatch(url))
    return is_plain and has_port and parts.scheme == "https" and bool(parts.hostname)


def _public_urls(base_url: str) -> Urls:
    base = refuse_credentials(base_url).rstrip("/")
    if not _is_address(base):
        raise BadInput(
            f"--base-url {base} is not an https:// address; give one without ? and #, and escape spaces, "
            "quotes, <, >, \\, ^, `, {, |, } and letters beyond ASCII by %"
        )

    def url(key: str) -> str:
        full = f"{base}/{quote(key)}"
        if len(full) > MAX_URL_LETTERS:
            raise BadInput(f"{full[:80]}... has over {MAX_URL_LETTERS} characters; give a shorter --base-url")
        return full

    return url
