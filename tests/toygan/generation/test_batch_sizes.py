"""How many pictures a batch gets, and how the cores are shared."""

import os
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models import tiny_model
from toygan.artifact.model import Model
from toygan.generation.engine import Engine, WorkerPool, batch_shapes, default_batch_size, share_cores

NO_POOL = cast("WorkerPool", SimpleNamespace())  # None would start a pool with processes


def test_the_largest_batch_follows_from_model_and_device() -> None:
    model = tiny_model().load()

    def size(side: int, device: str) -> int:
        networks = replace(model.config.networks, resolution=side)
        config = replace(model.config, networks=networks)
        return default_batch_size(replace(model, config=config, device=torch.device(device)))

    assert [size(side, "cpu") for side in (32, 64, 128, 512)] == [32, 8, 2, 1]
    assert [size(side, "cuda") for side in (32, 64, 4096)] == [2048, 512, 1]


def test_shapes_are_few_and_end_with_the_largest() -> None:
    assert batch_shapes(4, torch.device("cpu")) == (1, 2, 4)
    assert batch_shapes(12, torch.device("cpu")) == (1, 2, 4, 12)
    assert batch_shapes(128, torch.device("cuda")) == (1, 2, 8, 32, 128)


def taken(engine: Engine, waiting: int) -> list[int]:
    """The numbers of pictures of the batches that are submitted, if none gets another attempt."""
    batches: list[int] = []
    in_flight = 0
    while waiting:
        if pictures := engine.next_batch(waiting, in_flight):
            batches.append(pictures)
            waiting -= pictures
            in_flight += 1
        else:
            in_flight -= 1  # one is decided
            assert in_flight >= 0
    return batches


@settings(deadline=None)
@given(waiting=st.integers(1, 100), largest=st.integers(1, 64))
def test_a_cpu_never_pads_and_shares_out_the_last_pictures(waiting: int, largest: int) -> None:
    batches = taken(engine_of("cpu", largest), waiting)
    assert set(batches) <= set(batch_shapes(largest, torch.device("cpu")))
    assert sum(batches) == waiting
    last = (waiting - 1) % largest + 1  # those that are not in full batches
    assert batches[: waiting // largest - (last == largest)] == [largest] * ((waiting - last) // largest)
    assert all(4 * pictures < last + 4 for pictures in batches[(waiting - last) // largest :])


def test_the_last_pictures_on_a_cpu_become_small_batches() -> None:
    engine = engine_of("cpu", 32)
    assert taken(engine, 3) == [1, 1, 1]
    assert taken(engine, 7) == [2, 2, 1, 1, 1]
    assert taken(engine, 20) == [4, 4, 2, 2, 2, 2, 1, 1, 1, 1]
    assert taken(engine, 36) == [32, 1, 1, 1, 1]


@settings(deadline=None)
@given(waiting=st.integers(0, 100), in_flight=st.integers(4, 6), device=st.sampled_from(["cpu", "cuda"]))
def test_no_more_batches_than_four_are_in_flight(waiting: int, in_flight: int, device: str) -> None:
    assert engine_of(device, 8).next_batch(waiting, in_flight) == 0


@settings(deadline=None)
@given(waiting=st.integers(1, 100), largest=st.integers(1, 64))
def test_a_gpu_draws_all_it_can(waiting: int, largest: int) -> None:
    engine = engine_of("cuda", largest)
    now = engine.next_batch(waiting, 0)
    assert engine.shape_of(now) in engine.shapes
    assert now == min(waiting, largest) <= engine.shape_of(now)
    assert engine.next_batch(waiting, 1) == (largest if waiting >= largest else 0)


def engine_of(kind: str, largest: int) -> Engine:
    model = cast("Model", SimpleNamespace(device=torch.device(kind)))
    return Engine(model, batch_size=largest, worker_pool=NO_POOL)


@pytest.mark.parametrize(
    ("cores", "device", "shares"),
    [(1, "cpu", (1, 1)), (2, "cpu", (2, 1)), (4, "cpu", (4, 1)), (8, "cpu", (8, 2)), (16, "cuda", (1, 15))],
)
def test_cores_are_shared_between_drawing_and_postprocessing(
    cores: int, device: str, shares: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)))
    assert share_cores(torch.device(device)) == shares
