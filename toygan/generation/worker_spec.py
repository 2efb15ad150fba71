"""Tells a process where to find the models of a run, and keeps the engines that the process has loaded."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import get_args

from toygan.artifact.files import ModelFiles
from toygan.artifact.load import load_model, read_scope
from toygan.artifact.scope import ModelScope
from toygan.conditions.condition_types import MAIN, ImageCondition, ModelRole
from toygan.device import pick_device
from toygan.errors import ModelError
from toygan.generation.engine import Engine, WorkerPool
from toygan.registry.models import resolve
from toygan.storage.open_store import open_store

# A process keeps as many models as a run may have.
_MOST_ENGINES = len(get_args(ModelRole))
_lock = threading.Lock()
_scopes: dict[str, ModelScope] = {}  # keyed by NAME@VERSION, because the files of a version never change


@dataclass(frozen=True, kw_only=True)
class ModelPlace:
    """A model version: the reference by which `toygan.registry.models.resolve` finds it, and the version."""

    reference: str
    version: str


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """The models and the hardware of a run's processes, as texts and numbers that can be serialised."""

    store: str
    models: Mapping[ModelRole, ModelPlace]
    device: str = "auto"
    batch_size: int | None = None  # None if it is chosen for model and device
    cores: int | None = None  # None for all that the process may use

    def model_for(self, image_condition: ImageCondition | None) -> ModelPlace:
        """Returns the reference and the version of the model for products with this image condition."""
        return self.models[image_condition or MAIN]


def engine_for(worker_spec: WorkerSpec, image_condition: ImageCondition | None = None) -> Engine:
    """Returns the engine of this process for an image condition. The first call loads the model."""
    with _lock:
        return _engine(
            worker_spec.store,
            worker_spec.model_for(image_condition),
            worker_spec.device,
            worker_spec.batch_size,
            worker_spec.cores,
        )


def scope_of(model: ModelFiles) -> ModelScope:
    """Returns `toygan.artifact.model.read_scope`, cached per version because it takes part of a second."""
    key = f"{model.name}@{model.version}"
    if key not in _scopes:
        _scopes[key] = read_scope(model)
    return _scopes[key]


@lru_cache(maxsize=_MOST_ENGINES)
def _engine(store: str, place: ModelPlace, device: str, batch_size: int | None, cores: int | None) -> Engine:
    source = resolve(place.reference, open_store(store))
    if source.version != place.version:
        raise ModelError(
            f"the model {place.reference} is now {source.version}, but the run began with {place.version}"
        )
    worker_pool = _worker_pool(device, cores)  # created first, because it sets torch's number of threads
    model = load_model(source, pick_device(device))
    return Engine(model, batch_size=batch_size, worker_pool=worker_pool)


@lru_cache(maxsize=1)
def _worker_pool(device: str, cores: int | None) -> WorkerPool:
    return WorkerPool(pick_device(device), cores=cores)
