"""The flow `retrain`: trains a challenger on uploaded photos, and promotes it if it is better."""

from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from flows.lifeline import end_with_the_service
from flows.parameters import RetrainParameters
from toygan.artifact.files import ModelFiles
from toygan.device import pick_device
from toygan.errors import RunFailed
from toygan.retraining.budget import Budget
from toygan.retraining.comparison import Outcome, compare, read_outcome
from toygan.retraining.folder import working_folder
from toygan.retraining.learn import learn
from toygan.retraining.plan import Attempt, NothingToDo, begin, give_up
from toygan.retraining.publish import publish
from toygan.retraining.request import Limits, RetrainRequest
from toygan.retraining.speeds import budget_of
from toygan.storage.open_store import open_store
from toygan.storage.store import ObjectStore


@flow(name="retrain", flow_run_name="retrain for {parameters.store}", persist_result=False)
def retrain(parameters: RetrainParameters) -> State[Any]:
    """Takes a snapshot, trains, calibrates, compares challenger and champion, decides, writes a model card.

    The next run resumes an interrupted one from its last checkpoint. The champion changes in one step near
    the end, or not at all.
    """
    end_with_the_service()
    log = get_run_logger()
    request, store = _request(parameters), open_store(parameters.store)
    with working_folder(request.work, store) as folder:
        attempt = take_snapshot(request, store, folder)
        if isinstance(attempt, NothingToDo):
            return Completed(message=f"nothing to do: {attempt.reason}")
        try:
            outcome = read_outcome(attempt)
            if outcome is None:
                budget = estimate_time(attempt, request)
                log.info("the retraining will take %s", budget.text())
                challenger = train_challenger(attempt, budget, request)
                outcome = evaluate_both(attempt, challenger, budget, request)
        except RunFailed:
            log.warning(
                "the files of this retraining are removed, so the next retraining starts from the beginning"
            )
            give_up(folder)
            raise
        became_champion = publish_challenger(store, attempt, outcome, request)
    create_markdown_artifact(
        key="retrain", markdown=outcome.card_with_preview(), description=f"{outcome.challenger}"
    )
    result = "is the champion now" if became_champion else "was not promoted"
    return Completed(message=f"{outcome.challenger} {result}")


@task(name="take-snapshot", persist_result=False, cache_policy=NO_CACHE)
def take_snapshot(request: RetrainRequest, store: ObjectStore, folder: Path) -> Attempt | NothingToDo:
    """Waits until no more photos are uploaded, then plans the retraining with all photos."""
    return begin(request, store, folder)


@task(name="estimate-time", persist_result=False, cache_policy=NO_CACHE)
def estimate_time(attempt: Attempt, request: RetrainRequest) -> Budget:
    """Measures how fast this machine is, and fits the retraining to its time limit."""
    return budget_of(
        attempt,
        max_minutes=request.max_minutes,
        pictures=request.pictures,
        device=pick_device(request.device),
    )


@task(name="train-challenger", persist_result=False, cache_policy=NO_CACHE)
def train_challenger(attempt: Attempt, budget: Budget, request: RetrainRequest) -> ModelFiles:
    """Trains and calibrates the challenger, from the last checkpoint if there is one."""
    return learn(attempt, budget, pick_device(request.device), open_store(request.store))


@task(name="evaluate-both", persist_result=False, cache_policy=NO_CACHE)
def evaluate_both(
    attempt: Attempt, challenger: ModelFiles, budget: Budget, request: RetrainRequest
) -> Outcome:
    """Measures challenger and champion on the same photos, and decides."""
    return compare(
        attempt,
        challenger,
        pictures=budget.pictures,
        limits=request.limits,
        device=pick_device(request.device),
    )


@task(name="publish-challenger", persist_result=False, cache_policy=NO_CACHE)
def publish_challenger(
    store: ObjectStore, attempt: Attempt, outcome: Outcome, request: RetrainRequest
) -> bool:
    """Adds the challenger and its card to the store, and promotes the challenger if this was decided."""
    return publish(store, attempt, outcome, request.run_id)


def _request(parameters: RetrainParameters) -> RetrainRequest:
    return RetrainRequest(
        store=parameters.store,
        work=Path(parameters.work),
        run_id=str(flow_run.id),
        photos=parameters.photos,
        catalog=parameters.catalog,
        max_images=parameters.max_images,
        max_minutes=parameters.max_minutes,
        pictures=parameters.pictures,
        limits=Limits(recall_loss=parameters.recall_loss, category_loss=parameters.category_loss),
        quiet_s=parameters.quiet_s,
        device=parameters.device,
    )
