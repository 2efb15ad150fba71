"""The flow `generate-catalog`: every product of a catalog gets a picture."""

from typing import Any, cast

import prefect
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture, as_completed
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import exponential_backoff

from flows.parameters import GenerateParameters
from toygan.errors import BadInput, Retryable, RunFailed
from toygan.generation.run import (
    RunRequest,
    RunSummary,
    StartedRun,
    Workplace,
    finish_run,
    run_shard,
    start_run,
)
from toygan.images import ImageFormat
from toygan.progress import Progress

# While one shard waits for its last decisions, the device draws for the other.
SHARDS_AT_A_TIME = 2
# Prefect's type for a runner does not admit its own thread runner.
RUNNER = cast("TaskRunner[PrefectFuture[Any]]", ThreadPoolTaskRunner(max_workers=SHARDS_AT_A_TIME))


def _is_retryable(task: object, task_run: TaskRun, state: State) -> bool:
    try:
        state.result()  # raises what the task raised
    except BadInput:
        return False
    except Exception:
        return True
    return False


@task(
    name="generate-shard",
    task_run_name="shard-{shard}",
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=2),
    retry_jitter_factor=0.5,
    retry_condition_fn=_is_retryable,
    persist_result=False,
)
def generate_shard(
    workplace: Workplace, run_id: str, shard: int, image_format: ImageFormat
) -> dict[str, int]:
    """Draws, judges and stores the pictures of one shard, then commits its metadata."""
    try:
        return dict(run_shard(workplace, run_id, shard, image_format))
    except Retryable as error:
        # Of a retry Prefect itself tells those only who want to know everything.
        get_run_logger().warning("shard %d: %s", shard, error)
        raise


@flow(
    name="generate-catalog",
    task_runner=RUNNER,
    persist_result=False,
    validate_parameters=True,
)
def generate_catalog(parameters: GenerateParameters) -> RunSummary:
    """Reads a catalog, draws, judges and stores a picture of every product that needs one.

    A run that died is taken up by running the flow again with its `run_id`; by default that is the id of the
    flow run, so that Prefect's own retries take it up.
    """
    request = RunRequest(**parameters.model_dump() | {"run_id": parameters.run_id or flow_run.id})
    run = start_run(request)
    log = get_run_logger()
    log.info(
        "run %s: %s planned, %d shards to do", request.run_id, run.plan.counts["planned"], len(run.pending)
    )
    compute_shards(run)
    summary = finish_run(run, prefect.__version__)
    create_markdown_artifact(
        key="generate-catalog", markdown=summary.markdown(), description=f"Run {request.run_id}"
    )
    return summary


def compute_shards(run: StartedRun) -> None:
    """Runs the shards that are not done.

    Raises RunFailed when some of them cannot be done, or what one of them says of bad input.
    """
    shards, settings = run.plan.shards, run.plan.settings
    errors: dict[int, object] = {}
    futures = {
        generate_shard.submit(run.workplace, run.plan.run_id, shard, settings.format): shard
        for shard in run.pending
    }
    total = sum(shards[shard].slots for shard in run.pending)
    with Progress(total=total, unit="products", description="generating") as progress:
        for future in as_completed(list(futures)):
            shard = futures[future]
            result = future.result(raise_on_failure=False)
            if future.state.is_completed():
                progress.advance(shards[shard].slots)
            else:
                errors[shard] = result
    for error in errors.values():
        if isinstance(error, BadInput):
            raise error
    if errors:
        told = [f"shard {shard}: {error}" for shard, error in sorted(errors.items())[:3]]
        raise RunFailed(
            f"{len(errors)} of {len(futures)} shards failed; run again with the run id {run.plan.run_id}, "
            f"what is done stays done. {'; '.join(told)}"
        )
