"""The output tables."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catalog_schemas.images import (
    CURRENT,
    FILE_COLUMNS,
    IMAGES,
    OF_CANDIDATE,
    read_current,
    write_current,
    write_images,
)
from catalog_schemas.validation import TableError, read_parquet_bytes

APPROVED: dict[str, Any] = {
    "image_id": "0123456789abcdef0123",
    "sku": "brick-1",
    "image_index": 0,
    "category": "brick",
    "title": "Red brick",
    "language": "en",
    "colour": "red",
    "handle": "red-brick",
    "run_id": "nightly-1",
    "decision": "approved",
    "reasons": [],
    "image_uri": "images/brick/brick-1/0123456789abcdef0123.webp",
    "sha256": "a" * 64,
    "width": 64,
    "height": 64,
    "format": "webp",
    "bytes": 1234,
    "model_name": "toybricks",
    "model_version": "0123456789ab",
    "model_family": "dcgan",
    "seed": 2**62,
    "attempt": 0,
    "batch_size": 32,
    "engine": "torch 2",
    "truncation": 1.0,
    "logit": 0.3,
    "p_real": 0.7,
    "threshold": 0.5,
    "phash": "ffff0000ffff0000",
    "fill_ratio": 0.3,
    "background_white": 0.9,
    "colour_delta_e": 4.0,
    "conditions": "{}",
    "condition_sha256": [("sketch", "b" * 64)],
    "row_fingerprint": "c" * 64,
    "generated_at": datetime(2026, 11, 1, tzinfo=UTC),
    "pipeline_version": "0.1.0",
    "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
}
REJECTED = {**APPROVED, **dict.fromkeys(FILE_COLUMNS), "decision": "rejected", "reasons": ["blank"]}


def images(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=IMAGES)


def current(*keys: tuple[str, int], run_id: str = "r") -> pa.Table:
    rows = [
        {
            **{name: APPROVED[name] for name in OF_CANDIDATE},
            "commit": 1,
            "decided_by": "machine",
            "sku": sku,
            "image_index": index,
            "run_id": run_id,
        }
        for sku, index in keys
    ]
    return pa.Table.from_pylist(rows, schema=CURRENT)


def test_the_columns_are_those_of_the_design() -> None:
    assert IMAGES.names == list(APPROVED)
    assert CURRENT.names == [
        "sku",
        "image_index",
        "image_id",
        "category",
        "image_uri",
        "sha256",
        "model_name",
        "model_version",
        "row_fingerprint",
        "run_id",
        "phash",
        "commit",
        "decided_by",
    ]


def test_image_rows_survive_the_file() -> None:
    table = images(APPROVED, REJECTED)
    assert read_parquet_bytes(write_images(table), IMAGES, "images").equals(table)


keys = st.lists(
    st.tuples(st.sampled_from(["a", "B", "a-1", "a.1", "Z"]), st.integers(0, 3)), unique=True, max_size=12
)


@settings(deadline=None)
@given(keys, st.randoms())
def test_the_live_table_has_the_same_bytes_whatever_the_order(
    pairs: list[tuple[str, int]], random: Any
) -> None:
    shuffled = random.sample(pairs, len(pairs))
    data = write_current(current(*pairs))
    half = len(shuffled) // 2
    parts = pa.concat_tables([current(*shuffled[:half]), current(*shuffled[half:])])
    assert write_current(parts) == data
    rows = read_current(data).select(["sku", "image_index"]).to_pylist()
    assert [(row["sku"], row["image_index"]) for row in rows] == sorted(pairs)


def test_the_live_table_is_picked_from_image_rows_and_their_commit() -> None:
    rows = images(APPROVED).append_column("commit", pa.array([1], pa.int64()))
    rows = rows.append_column("decided_by", pa.array(["machine"]))
    assert write_current(rows) == write_current(current(("brick-1", 0), run_id="nightly-1"))


def test_the_live_table_has_fixed_row_groups() -> None:
    data = write_current(current(*[(f"s{i:06d}", 0) for i in range(70_000)]))
    metadata = pq.ParquetFile(pa.BufferReader(data)).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [65_536, 4_464]


def test_a_slot_with_two_live_pictures_is_refused() -> None:
    with pytest.raises(TableError, match="the same sku and image_index"):
        write_current(pa.concat_tables([current(("a", 0)), current(("a", 0), run_id="other")]))
