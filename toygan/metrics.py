"""Metrics of this process for Prometheus. `flows.metrics` decides whether they are served.

| metric | labels | meaning |
|---|---|---|
| `toygan_candidates_total` | category, decision | pictures; gives their rate and the share that is approved |
| `toygan_shard_seconds_total` | category | seconds spent on shards |
| `toygan_shards_waiting` | run | shards of a run that are not done yet |
| `toygan_store_failures_total` | error | requests to S3 that failed, including those that were repeated |
| `toygan_gpu_memory_bytes` | device | the largest GPU memory that torch has allocated |
| `toygan_last_success_timestamp_seconds` | store | the end of the last run without an error, in Unix time |
| `toygan_pictures_missing` | store | pictures that the last run's catalog wants and that are not live |
| `toygan_review_backlog` | store | candidates that wait for people, after the last run |
| `toygan_photos_quarantined` | store | uploaded photos that cannot be used, after the last run |
"""

from collections.abc import Mapping

from prometheus_client import Counter, Gauge

CANDIDATES = Counter("toygan_candidates", "Pictures generated and scored", ["category", "decision"])
SHARD_SECONDS = Counter("toygan_shard_seconds", "Time spent on shards", ["category"])
SHARDS_WAITING = Gauge(
    "toygan_shards_waiting", "Shards of a run that are not done", ["run"], multiprocess_mode="livesum"
)
STORE_FAILURES = Counter("toygan_store_failures", "Requests to S3 that failed", ["error"])
GPU_MEMORY_BYTES = Gauge(
    "toygan_gpu_memory_bytes",
    "The largest GPU memory that torch has allocated",
    ["device"],
    multiprocess_mode="livesum",
)
LAST_SUCCESS, PICTURES_MISSING, REVIEW_BACKLOG, PHOTOS_QUARANTINED = (
    Gauge(name, meaning, ["store"], multiprocess_mode="mostrecent")
    for name, meaning in (
        ("toygan_last_success_timestamp_seconds", "The end of the last run without an error"),
        ("toygan_pictures_missing", "Wanted pictures that are not live"),
        ("toygan_review_backlog", "Candidates that wait for people"),
        ("toygan_photos_quarantined", "Uploaded photos that cannot be used"),
    )
)


def count_shard(decisions: Mapping[str, Mapping[str, int]], elapsed_s: float) -> None:
    """Counts a finished shard: candidates by category and decision, its time, and the memory of the devices.

    The time is divided among the categories in proportion to their numbers of candidates.
    """
    import torch

    total = sum(sum(counts.values()) for counts in decisions.values())
    for category, counts in decisions.items():
        for decision, candidates in counts.items():
            CANDIDATES.labels(category, decision).inc(candidates)
        SHARD_SECONDS.labels(category).inc(elapsed_s * sum(counts.values()) / total)
    for device in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        GPU_MEMORY_BYTES.labels(str(device)).set(torch.cuda.max_memory_allocated(device))
