"""What this process counts, for Prometheus. Whether anybody can read it is a matter of `flows.metrics`.

| metric | labels | what it tells |
|---|---|---|
| `toygan_candidates_total` | category, decision | pictures, their rate a second, the acceptance |
| `toygan_shard_seconds_total` | category | time spent on shards |
| `toygan_shards_waiting` | run | the queue: shards of a run that are not done |
| `toygan_store_failures_total` | error | requests to S3 that failed, those that were repeated included |
| `toygan_gpu_memory_bytes` | device | the most that torch has had in use |
"""

from collections.abc import Mapping

from prometheus_client import Counter, Gauge

CANDIDATES = Counter("toygan_candidates", "Pictures drawn and judged", ["category", "decision"])
SHARD_SECONDS = Counter("toygan_shard_seconds", "Time spent on shards", ["category"])
SHARDS_WAITING = Gauge(
    "toygan_shards_waiting", "Shards of a run that are not done", ["run"], multiprocess_mode="livesum"
)
STORE_FAILURES = Counter("toygan_store_failures", "Requests to S3 that failed", ["error"])
GPU_MEMORY_BYTES = Gauge(
    "toygan_gpu_memory_bytes", "The most that torch has had in use", ["device"], multiprocess_mode="livesum"
)


def count_shard(category: str, decisions: Mapping[str, int], elapsed_s: float) -> None:
    """A shard is done: its candidates by decision, and what the devices of this process hold."""
    import torch

    for decision, candidates in decisions.items():
        CANDIDATES.labels(category, decision).inc(candidates)
    SHARD_SECONDS.labels(category).inc(elapsed_s)
    for device in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        GPU_MEMORY_BYTES.labels(str(device)).set(torch.cuda.max_memory_allocated(device))
