"""All figures that the README states: `python -m tests.benchmarks [NAME]...`."""

import sys

from tests.benchmarks import (
    channels,
    colours,
    gpu,
    growth,
    kills,
    orchestration,
    peers,
    pipeline,
    planning,
    ray,
    review,
    shop,
    snapshots,
    start,
    training,
    travel,
    uploads,
)


def main() -> None:
    known = {
        "start": start.main,
        "planning": planning.main,
        "growth": growth.main,
        "pipeline": pipeline.main,
        "training": training.main,
        "uploads": uploads.main,
        "orchestration": orchestration.main,
        "ray": ray.main,
        "peers": peers.main,
        "review": review.main,
        "shop": shop.main,
        "snapshots": snapshots.main,
        "kills": kills.main,
        "channels": channels.main,
        "colours": colours.main,
        "gpu": gpu.main,
        "travel": travel.main,
    }
    chosen = sys.argv[1:] or list(known)
    unknown = [name for name in chosen if name not in known]
    if unknown:
        sys.exit(f"no benchmark {', '.join(unknown)}; known are {', '.join(known)}")
    for name in chosen:
        print(f"\n== {name} ==", flush=True)
        known[name]()


if __name__ == "__main__":
    main()
