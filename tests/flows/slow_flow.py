"""A flow that lasts until a file is there, served as the service serves its own.

The real ones import torch, which takes longer than all that is tested with this one.
"""

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import RunnerDeployment
from prefect.types.entrypoint import EntrypointType

from flows.lifeline import end_with_the_service
from flows.nights import Nights
from flows.service import Served, ServiceRunner

NAME = "slow"


@flow(name=NAME, persist_result=False)
def slow(parameters: dict[str, Any]) -> None:
    """Writes into the file `log` when it starts and when it ends, once the file `go` is there."""
    end_with_the_service()
    with Path(parameters["log"]).open("a") as log:
        print("start", parameters["number"], file=log, flush=True)
        while not Path(parameters["go"]).exists():
            time.sleep(0.1)
        print("end", parameters["number"], file=log)


def main() -> None:
    """Serves it until a signal stops it."""
    waits = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.ENQUEUE)
    deployment = RunnerDeployment.from_flow(
        slow, name=NAME, concurrency_limit=waits, paused=False, entrypoint_type=EntrypointType.MODULE_PATH
    )
    served = Served(name=NAME, is_dropped=False, schedules=(), nights=Nights())
    ServiceRunner(grace=timedelta(hours=6)).serve({deployment.apply(): served})


if __name__ == "__main__":
    # Not as __main__, which a run would not find.
    from tests.flows import slow_flow

    slow_flow.main()
