import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.toygan.training.tiny import tiny
from toygan.training import fit as fit_module
from toygan.training.checkpoint import checkpoint_folders
from toygan.training.distributed import Distributed
from toygan.training.folder import Collapse, TrainingFolder
from toygan.training.guard import LOST_REPORTS, LR_FACTOR, WON_REPORTS, Guard, diversity, non_finite
from toygan.training.limits import Limits
from toygan.training.state import TrainState
from toygan.training.train import train

CPU = torch.device("cpu")


def test_finite_weights_pass() -> None:
    assert non_finite({"generator": nn.BatchNorm1d(2), "discriminator": nn.Linear(2, 2)}) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_bad_number_is_found_and_named(value: float) -> None:
    network = nn.BatchNorm1d(2)
    assert network.running_var is not None
    network.running_var[1] = value
    assert non_finite({"discriminator": nn.Linear(2, 2), "generator": network}) == "generator/running_var"


def test_diversity_by_hand() -> None:
    """Two pictures that differ by 1 in a quarter of their numbers: a deviation of 1 / sqrt(2) there."""
    images = torch.zeros(2, 1, 2, 2)
    images[1, 0, 0, 0] = 1.0
    assert diversity(images) == pytest.approx(1 / math.sqrt(2) / 4)


def watched(guard: Guard, *reports: tuple[float, float]) -> Guard:
    for discriminator_loss, share in reports:
        guard = guard.watch(discriminator_loss=discriminator_loss, diversity=share)
    return guard


def test_a_healthy_training_is_left_alone() -> None:
    guard = watched(Guard(), *[(0.8, 0.9), (0.4, 0.5), (1.2, 0.2)] * 10)
    assert guard.is_calm
    assert guard.collapse is None
    assert guard.best_diversity == 0.9


def test_a_loss_at_zero_for_long_is_a_collapse_but_not_for_once() -> None:
    guard = watched(Guard(), *[(0.0, 1.0)] * (WON_REPORTS - 1))
    assert guard.collapse is None
    assert not guard.is_calm
    assert watched(guard, (0.5, 1.0)).is_calm
    assert "loss was at zero" in str(watched(guard, (0.0, 1.0)).collapse)


def test_pictures_that_become_the_same_are_a_collapse() -> None:
    guard = watched(Guard(), (0.5, 0.8), *[(0.5, 0.07)] * LOST_REPORTS)
    assert guard.collapse == "all pictures have become nearly the same"
    # A wild beginning is nothing to measure by: photos' own diversity is 1.
    assert watched(Guard(), (0.5, 5.0), *[(0.5, 0.2)] * 5).is_calm
    # What has never differed has not collapsed.
    assert watched(Guard(), *[(0.5, 0.01)] * 5).is_calm


def test_what_it_remembers_survives_json() -> None:
    guard = Guard(rollbacks=2, best_diversity=0.4, won_reports=1, lost_reports=1)
    assert Guard.from_json(guard.to_json()) == guard
    assert guard.lr_factor == LR_FACTOR**2


def ruin(state: TrainState, kind: str, rng: torch.Generator) -> None:
    """Three ways in which trainings end."""
    weights = [each for each in state.generator.parameters() if each.ndim > 1]
    with torch.no_grad():
        if kind == "not finite":
            chosen = weights[int(torch.randint(len(weights), (1,), generator=rng))]
            chosen[(int(torch.randint(len(chosen), (1,), generator=rng)), *[0] * (chosen.ndim - 1))] = (
                torch.nan
            )
        elif kind == "one picture":
            for each in weights:
                each.mul_(1e-4)
        else:
            for each in state.discriminator.parameters():
                each.add_(torch.randn(each.shape, generator=rng), alpha=1e3)


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 10))])
def test_ten_collapses_ten_recoveries(
    seed: int,
    shards: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Once, at a step of the seed's own, the networks are ruined; the training ends healthy all the same."""
    kind = ("not finite", "one picture", "the discriminator wins")[seed % 3]
    rng = torch.Generator().manual_seed(seed)
    ruined_at = 32 + 4 * int(torch.randint(8, (1,), generator=rng))
    config = tiny(seed=seed, log_every_images=4)
    real_step, is_ruined = fit_module.train_step, [False]

    def step(state: TrainState, *rest: Any) -> Tensor:
        losses = real_step(state, *rest)
        if state.images_seen >= ruined_at and state.guard.rollbacks == 0:
            if not is_ruined[0]:
                ruin(state, kind, rng)
            is_ruined[0] = True
            if kind == "the discriminator wins":
                losses[1] = 0.0
        return losses

    monkeypatch.setattr(fit_module, "train_step", step)
    train(photos_uri=shards, output=tmp_path, config=config, device=CPU, limits=Limits(max_images=96))
    assert is_ruined == [True]
    messages = [record.getMessage() for record in caplog.records if "It goes back to" in record.getMessage()]
    assert len(messages) == 1
    assert f"at {LR_FACTOR:g} times the learning rates" in messages[0]
    last = checkpoint_folders(tmp_path)[-1]
    assert int(last.name) == 96
    tensors = load_file(last / "state.safetensors")
    assert all(value.isfinite().all() for value in tensors.values())
    extras = fetch_extras(last)
    assert extras["guard"]["rollbacks"] == 1
    assert Guard.from_json(extras["guard"]).is_calm


def fetch_extras(folder: Path) -> dict[str, Any]:
    extras: dict[str, Any] = json.loads((folder / "state.json").read_bytes())["extras"]
    return extras


@pytest.mark.slow
def test_a_process_that_dies_after_a_rollback_goes_on_at_the_lower_rates(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights as of one that did not die."""
    real_step = fit_module.train_step

    def step(state: TrainState, *rest: Any) -> Tensor:
        losses = real_step(state, *rest)
        if state.images_seen == 24 and state.guard.rollbacks == 0:
            next(state.generator.parameters()).data.fill_(float("nan"))
        return losses

    monkeypatch.setattr(fit_module, "train_step", step)
    config = tiny(checkpoint_every_images=8, log_every_images=8)
    train(
        photos_uri=shards, output=tmp_path / "whole", config=config, device=CPU, limits=Limits(max_images=64)
    )

    stops: list[int] = []

    def dies(state: TrainState, *rest: Any) -> Tensor:
        if state.guard.rollbacks and not stops:
            stops.append(state.images_seen)
            raise KeyboardInterrupt
        return step(state, *rest)

    monkeypatch.setattr(fit_module, "train_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train(
            photos_uri=shards,
            output=tmp_path / "died",
            config=config,
            device=CPU,
            limits=Limits(max_images=64),
        )
    assert stops == [24]
    monkeypatch.setattr(fit_module, "train_step", real_step)
    train(
        photos_uri=shards,
        output=tmp_path / "died",
        config=config,
        device=CPU,
        limits=Limits(max_images=64),
        resume=True,
    )
    whole, died = (
        load_file(checkpoint_folders(tmp_path / name)[-1] / "state.safetensors") for name in ("whole", "died")
    )
    assert whole.keys() == died.keys()
    assert all(torch.equal(whole[name], died[name]) for name in whole)


def test_a_collapse_in_another_process_is_one_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU, processes have their own averages of batch normalisation, so their pictures differ."""
    monkeypatch.setattr(
        torch.distributed, "all_reduce", lambda mine: mine.add_(1.0)
    )  # adds the other's value
    two = Distributed(index=0, count=2)
    assert two.mean_number(0.5) == 0.75
    state = cast("TrainState", SimpleNamespace(modules={"generator": nn.Linear(2, 2)}, distributed=two))
    folder = cast("TrainingFolder", SimpleNamespace())
    with pytest.raises(Collapse, match="a weight of another process is no longer finite"):
        TrainingFolder._check_finite(folder, state)
