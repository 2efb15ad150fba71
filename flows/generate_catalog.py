"""The flow `generate-catalog`: generates a picture of every product of a catalog."""

from dataclasses import replace
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture, as_completed
from prefect.runtime import flow_run
from prefect.tasks import exponential_backoff

from flows.events import emit_alerts
from flows.lifeline import end_with_the_service
from flows.logs import log_fields, use_the_log_format
from flows.parameters import GenerateParameters
from flows.runners import BY_THE_SETTINGS, cores_of_a_shard, shard_resources
from flows.showing import RunProgress, show_run
from flows.steps import begin_run, end_run, generating, logged_shard, raise_failures
from toygan.errors import BadInput
from toygan.generation.request import RunRequest
from toygan.generation.run import StartedRun, run_shard
from toygan.generation.worker_spec import WorkerSpec
from toygan.images import ImageFormat
from toygan.metrics import SHARDS_WAITING
from toygan.planning.plan import Shard
from toygan.publishing.summary import RunSummary


def _is_retryable(task: object, task_run: TaskRun, state: State) -> bool:
    try:
        state.result()  # raises the exception of the task
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
    worker_spec: WorkerSpec, run_id: str, shard: int, planned: Shard, image_format: ImageFormat
) -> dict[str, dict[str, int]]:
    """Generates, scores and stores the pictures of one shard, then commits its metadata.

    Returns its candidates by category and decision.
    """
    use_the_log_format()
    with logged_shard(get_run_logger(), run_id, shard, planned.categories) as done:
        return done(run_shard(worker_spec, run_id, shard, image_format, planned.sha256))


@flow(
    name="generate-catalog",
    flow_run_name="{parameters.mode} pictures of {parameters.catalog}",
    task_runner=BY_THE_SETTINGS,
    persist_result=False,
    validate_parameters=True,
)
def generate_catalog(parameters: GenerateParameters) -> RunSummary:
    """Reads a catalog; generates, scores and stores a picture of every product that needs one.

    To resume an interrupted run, run the flow again with its `run_id`. The default is the id of the flow run,
    so that Prefect's own retries resume it.
    """
    end_with_the_service()
    use_the_log_format()
    request = RunRequest(**parameters.model_dump() | {"run_id": parameters.run_id or flow_run.id})
    with log_fields(run=request.run_id):
        begun = begin_run(request)
        run = begun.run
        log = get_run_logger()
        planned, to_do = run.plan.counts["planned"], len(run.pending)
        log.info("run %s: %s pictures planned, %d shards to do", request.run_id, planned, to_do)
        if run.pending:
            compute_shards(run)
        summary = end_run(begun, log, emit_alerts)
        show_run(summary)
    return summary


def compute_shards(run: StartedRun) -> None:
    """Runs the shards that are not done.

    Raises the BadInput of a shard, or RunFailed if shards failed for other reasons.
    """
    shards, settings = run.plan.shards, run.plan.settings
    worker_spec = replace(run.worker_spec, cores=cores_of_a_shard())
    errors: dict[int, object] = {}
    with shard_resources():
        futures = {
            generate_shard.submit(worker_spec, run.plan.run_id, shard, shards[shard], settings.format): shard
            for shard in run.pending
        }
    waiting = SHARDS_WAITING.labels(run.plan.run_id)
    waiting.set(len(futures))
    total = sum(shards[shard].slots for shard in run.pending)
    artifact = RunProgress(run.plan.run_id, total)
    with generating(run) as progress:
        for future in as_completed(list(futures)):
            shard = futures[future]
            waiting.dec()
            error = _error_of(future)
            if error is None:
                progress.advance(shards[shard].slots)
                artifact.advance(shards[shard].slots)
            else:
                errors[shard] = error
    raise_failures(errors, run)


def _error_of(future: PrefectFuture[Any]) -> object | None:
    """Returns the error of a shard, which may be an error of Dask or Ray.

    Returns None for a finished shard.
    """
    try:
        result = future.result(raise_on_failure=False)
    except Exception as error:  # for example, workers were lost repeatedly
        return error
    return None if future.state.is_completed() else result
