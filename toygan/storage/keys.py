"""Builds the keys of the store's layout.

Each function checks the parts that come from a catalog or a command line. It raises BadInput for a bad part;
the message names the part.
"""

import re
from hashlib import sha256

from slugify import slugify

from catalog_schemas.images import FORMATS
from catalog_schemas.validation import NAME_PATTERN
from toygan.errors import BadInput
from toygan.storage.store import TMP_PREFIX, check_key

NAME = re.compile(NAME_PATTERN)
NAME_RULE = "1 to 128 letters of A-Z a-z 0-9 . _ - and must not start with a dot"

IMAGES_PREFIX = "images/"
REVIEW_PREFIX = "review/"
METADATA_PREFIX = "metadata/"
RUNS_PREFIX = "runs/"
MODELS_PREFIX = "models/"
PHOTOS_PREFIX = "photos/"
CONDITIONS_PREFIX = "conditions/"
# These files are not below photos/, because a watcher of this prefix must not be notified about them.
PHOTO_INDEX_KEY = "photo_index/photos.parquet"
QUARANTINE_KEY = "photo_index/quarantine.parquet"
RETRAINED_KEY = "photo_index/retrained.json"
ALIASES_KEY = MODELS_PREFIX + "aliases.json"
CURRENT_KEY = "current.parquet"
# This prefix is in the place of an export, not in the store.
EXPORTED_PREFIX = "pictures/"
STORE_REPORT_KEY = "reports/index.html"
DECISIONS_PREFIX = "decisions/"
RETIRED_PREFIX = "retired/"
# The summaries of earlier runs. Every commit updates them, so that a run does not have to read all earlier
# runs; see toygan/planning/README.md.
COMMITS_KEY = "state/commits.json"
ATTEMPTS_KEY = "state/attempts.parquet"
DECIDED_KEY = "state/decisions.parquet"
NIGHTS_KEY = "state/nights.parquet"
PRUNING_KEY = "state/pruning.json"

_IMAGE_ID = re.compile(r"[0-9a-f]{20}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9a-f]{12}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DECISION_ID = re.compile(r"[0-9a-f]{32}")
_PLAN_SHARD = re.compile(re.escape(TMP_PREFIX) + "[^/]+/plan/")
_MAX_SHARD = 99_999
_SLUG_LETTERS = 64


def image_key(category: str, sku: str, image_id: str, extension: str) -> str:
    """Returns the key of an approved picture."""
    return image_prefix(category, sku) + _file(image_id, extension)


def image_prefix(category: str, sku: str) -> str:
    """Returns the prefix of the keys of a product's approved pictures."""
    return f"{IMAGES_PREFIX}{slug_of(category)}/{slug_of(sku)}/"


def slug_of(text: str) -> str:
    """Returns a folder name: the text itself if it is plain, else a slug and 8 hex digits of its sha256.

    For example, the name of `Toys > Cars` begins with `toys-cars-`. Two different texts never share a name by
    accident.
    """
    if NAME.fullmatch(text):
        return text
    slug = slugify(text, max_length=_SLUG_LETTERS, word_boundary=True)
    digest = sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{slug}-{digest}" if slug else digest


def review_key(run_id: str, image_id: str, extension: str) -> str:
    """Returns the key of a candidate for review."""
    return review_prefix(run_id) + _file(image_id, extension)


def review_prefix(run_id: str) -> str:
    """Returns the prefix of the keys of a run's candidates for review."""
    return f"{REVIEW_PREFIX}run={_name('run id', run_id)}/"


def metadata_prefix(run_id: str) -> str:
    """Returns the prefix of the keys of a run's tables."""
    return f"{METADATA_PREFIX}run={_name('run id', run_id)}/"


def part_key(run_id: str, shard: int) -> str:
    """Returns the key of the metadata of a shard's candidates; the keys of a run sort by shard number."""
    return f"{metadata_prefix(run_id)}part-{_shard(shard)}.parquet"


def rejected_rows_key(run_id: str) -> str:
    """Returns the key of the table of catalog rows that were set aside."""
    return metadata_prefix(run_id) + "rejected_rows.parquet"


def report_key(run_id: str) -> str:
    """Returns the key of a run's report page."""
    return f"reports/{_name('run id', run_id)}/index.html"


def manifest_key(run_id: str) -> str:
    """Returns the key of a run's manifest, which is its commit."""
    return f"{RUNS_PREFIX}{_name('run id', run_id)}.json"


def decision_key(day: str, decision_id: str) -> str:
    """Returns the key of a person's decision; `day` is its date in UTC, YYYY-MM-DD."""
    checked = _matched("day", day, _DAY, "YYYY-MM-DD")
    name = _matched("decision id", decision_id, _DECISION_ID, "32 lower-case hex digits")
    return f"{DECISIONS_PREFIX}{checked}/{name}.json"


def retired_key(run_id: str) -> str:
    """Returns the key of the table of pictures that a run retired."""
    return f"{RETIRED_PREFIX}{_name('run id', run_id)}.parquet"


def returned_key(run_id: str) -> str:
    """Returns the key of the table of pictures whose retirement a run has undone."""
    return f"{RETIRED_PREFIX}returned/{_name('run id', run_id)}.parquet"


def tmp_prefix(run_id: str) -> str:
    """Returns the prefix of the keys of a run's unfinished files."""
    return f"{TMP_PREFIX}{_name('run id', run_id)}/"


def plan_key(run_id: str, shard: int) -> str:
    """Returns the key of the frozen plan of one shard."""
    return f"{tmp_prefix(run_id)}plan/{_shard(shard)}.parquet"


def plan_manifest_key(run_id: str) -> str:
    """Returns the key of a plan's manifest, which names its sources and is written after all its shards."""
    return tmp_prefix(run_id) + "plan.json"


def planning_key(run_id: str) -> str:
    """Returns the key of a run's marker.

    It is written when planning starts, and removed with the run's unfinished files.
    """
    return tmp_prefix(run_id) + "planning"


def condition_key(sha256: str) -> str:
    """Returns the key of a condition file; `sha256` is that of its content, in lower-case hex."""
    return f"{CONDITIONS_PREFIX}{_matched('sha256', sha256, _SHA256, '64 lower-case hex digits')}"


def photo_key(category: str, sku: str, file: str) -> str:
    """Returns the key of an uploaded photo; `file` is the user's file name, and may be any name that fits a
    key.
    """
    if "/" in file or file.startswith("."):
        raise BadInput(f"the photo's file name {file!r} may not hold a slash or start with a dot")
    return check_key(f"{PHOTOS_PREFIX}{_name('category', category)}/{_name('sku', sku)}/{file}")


def model_prefix(name: str, version: str) -> str:
    """Returns the prefix of the keys of a model version's files."""
    checked = _matched("model version", version, _VERSION, "12 lower-case hex digits")
    return f"{MODELS_PREFIX}{_name('model name', name)}/{checked}/"


def model_key(name: str, version: str, filename: str) -> str:
    """Returns the key of one file of a model version."""
    return model_prefix(name, version) + _name("model file", filename)


def is_referenced(key: str) -> bool:
    """Whether the object is written before the object that references it, as are pictures, exports and plan
    shards.

    Nothing relies on such an object until the other one exists.
    """
    return key.startswith((IMAGES_PREFIX, REVIEW_PREFIX, EXPORTED_PREFIX)) or bool(_PLAN_SHARD.match(key))


def _name(what: str, text: str) -> str:
    return _matched(what, text, NAME, NAME_RULE)


def _file(image_id: str, extension: str) -> str:
    if extension not in FORMATS:
        raise BadInput(f"the image format {extension!r} is not one of {', '.join(FORMATS)}")
    return f"{_matched('image id', image_id, _IMAGE_ID, '20 lower-case hex digits')}.{extension}"


def _shard(number: int) -> str:
    if not 0 <= number <= _MAX_SHARD:
        raise BadInput(f"the shard number {number} is not between 0 and {_MAX_SHARD}")
    return f"{number:05d}"


def _matched(what: str, text: str, pattern: re.Pattern[str], wanted: str) -> str:
    if not isinstance(text, str) or not pattern.fullmatch(text):
        shown = repr(text)
        raise BadInput(f"the {what} {shown if len(shown) <= 150 else shown[:150] + '...'} is not {wanted}")
    return text
