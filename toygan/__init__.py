"""Product pictures for toy shops, made by GANs in a batch pipeline.

The names below are the public API. They are imported when they are first used, because torch takes seconds.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toygan.api import Picture, evaluate, generate, load_model, score
    from toygan.artifact.config import ModelConfig
    from toygan.artifact.model import Model
    from toygan.errors import BadInput, ToyganError
    from toygan.evaluation.result import Evaluation
    from toygan.storage.open_store import open_store
    from toygan.storage.store import ObjectStore

__all__ = [
    "BadInput",
    "Evaluation",
    "Model",
    "ModelConfig",
    "ObjectStore",
    "Picture",
    "ToyganError",
    "evaluate",
    "generate",
    "load_model",
    "open_store",
    "score",
]

_MODULES = {
    "BadInput": "toygan.errors",
    "Evaluation": "toygan.evaluation.result",
    "Model": "toygan.artifact.model",
    "ModelConfig": "toygan.artifact.config",
    "ObjectStore": "toygan.storage.store",
    "ToyganError": "toygan.errors",
    "open_store": "toygan.storage.open_store",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'toygan' has no attribute {name!r}")
    return getattr(import_module(_MODULES.get(name, "toygan.api")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
