"""Metrics of this process for Prometheus. `flows.metrics` decides whether they are served.

| metric | labels | meaning |
|---|---|---|
| `toygan_candidates_total` | category, decision | pictures; gives their rate and the share that is approved |
| `toygan_shard_seconds_total` | category | seconds spent on shards |
| `toygan_shards_waiting` | run | the queue: shards of a run that are not done |
| `toygan_store_failures_total` | error | requests to S3 that failed, including those that were repeated |
| `toygan_gpu_memory_bytes` | device | the largest GPU memory that torch has allocated |
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


def count_shard(decisions: Mapping[str, Mapping[str, int]], elapsed_s: float) -> None:
    """Counts a finished shard: candidates by category and decision, its time, and the memory of the devices.

    Each category gets a part of the time, by its number of candidates.
    """
    import torch

    total = sum(sum(counts.values()) for counts in decisions.values())
    for category, counts in decisions.items():
        for decision, candidates in counts.items():
            CANDIDATES.labels(category, decision).inc(candidates)
        SHARD_SECONDS.labels(category).inc(elapsed_s * sum(counts.values()) / total)
    for device in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        GPU_MEMORY_BYTES.labels(str(device)).set(torch.cuda.max_memory_allocated(device))
