"""What the flow makes of shards that fail. The flow runs in this process, against the real server."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from prefect.states import Failed

from flows import generate_catalog as flow_module
from flows.generate_catalog import _is_retryable, generate_catalog
from flows.parameters import GenerateParameters
from tests.flows.catalogs import product, products, write_catalog
from tests.flows.command import Command
from tests.flows.failing_shards import Raises, failing_shards
from tests.models import tiny_model
from toygan.errors import BadInput, ModelError, Retryable, StoreUnavailable
from toygan.publishing.verify import verify
from toygan.storage.open_store import open_store

pytestmark = pytest.mark.usefixtures("flows_here")
RunShard = Callable[..., Mapping[str, int]]


@pytest.fixture
def parameters(tmp_path: Path) -> dict[str, Any]:
    """Three shards of ten products."""
    return {
        "catalog": str(products(tmp_path / "catalog.parquet", 30)),
        "models": {"main": str(tiny_model().write(tmp_path / "tiny"))},
        "output": str(tmp_path / "out"),
        "run_id": "nightly",
    }


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch) -> Callable[[Raises], Counter[int]]:
    return failing_shards(monkeypatch, flow_module)


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (BadInput("no"), False),
        (ModelError("no"), False),
        (Retryable("later"), True),
        (StoreUnavailable("later"), True),
        (ZeroDivisionError(), True),
    ],
)
def test_bad_input_is_not_tried_again(error: Exception, wanted: bool) -> None:
    assert _is_retryable(None, None, Failed(data=error)) is wanted  # type: ignore[arg-type]


def test_bad_input_in_a_shard_is_what_the_run_ends_with(parameters: dict[str, Any], fail: Any) -> None:
    """Say, credentials that were revoked meanwhile. The others are done, and stay done."""

    def raises(shard: int, attempt: int) -> None:
        if shard == 1:
            raise ModelError("the model is gone")

    attempts = fail(raises)
    with pytest.raises(ModelError, match="the model is gone"):
        generate_catalog(GenerateParameters(**parameters))
    assert attempts == {0: 1, 1: 1, 2: 1}
    assert verify(open_store(parameters["output"])).open_runs == ("nightly",)
    attempts = fail(lambda shard, attempt: None)
    summary = generate_catalog(GenerateParameters(**parameters))
    assert attempts == {1: 1}
    assert summary.manifest.counts["planned"] == 30
    assert verify(open_store(parameters["output"])).problems == ()


def test_a_passing_failure_is_tried_again(parameters: dict[str, Any], fail: Any) -> None:
    def raises(shard: int, attempt: int) -> None:
        if shard == 2 and attempt == 1:
            raise StoreUnavailable("the server is busy")

    attempts = fail(raises)
    assert generate_catalog(GenerateParameters(**parameters)).manifest.shards == 3
    assert attempts == {0: 1, 1: 1, 2: 2}


def test_a_run_without_an_id_takes_that_of_its_flow_run(parameters: dict[str, Any]) -> None:
    """So a flow run that Prefect tries again goes on with what it did."""
    state = generate_catalog(GenerateParameters(**{**parameters, "run_id": None}), return_state=True)
    assert state.result().manifest.run_id == str(state.state_details.flow_run_id)


def test_parameters_are_checked(parameters: dict[str, Any]) -> None:
    with pytest.raises(Exception, match="mode"):
        generate_catalog({**parameters, "mode": "some"})
    assert not Path(parameters["output"]).exists()


def test_what_only_the_plan_can_know_ends_the_command_with_two(
    parameters: dict[str, Any], tmp_path: Path, toygan_here: Command
) -> None:
    write_catalog(Path(parameters["catalog"]), [product(number, category="boat") for number in range(3)])
    where = (
        "--catalog",
        parameters["catalog"],
        "--model",
        parameters["models"]["main"],
        "--output",
        tmp_path / "out",
    )
    outcome = toygan_here("generate", *where)
    assert outcome.code == 2
    assert "none of the 3 rows can be used" in outcome.err
    assert "no_model_for_category (3)" in outcome.err
    assert not (tmp_path / "out").exists()
