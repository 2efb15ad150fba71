"""Trackers: TensorBoard, MLflow, Weights & Biases and trackio, through adapters of Hugging Face Accelerate.

Each program is imported only when a training uses it.
"""

import importlib.util
import logging
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toygan.errors import BadInput, needs_extra
from toygan.evaluation.features import Efficientnet, Features
from toygan.evaluation.metrics import kernel_distance
from toygan.training.tracking import StartTracker

TRACKERS: Final = ("tensorboard", "mlflow", "wandb", "trackio")
PROJECT: Final = "toygan"
FEWEST: Final = 4  # KID needs at least this number of pictures
_HALF_SAMPLES: Final = 2  # as few as possible, because they only give the error of KID, which is not shown

log = logging.getLogger(__name__)


def tracker(name: str) -> StartTracker:
    """Returns the function that starts the tracker `name`. Raises BadInput if its package is missing."""
    if name not in TRACKERS:
        raise BadInput(f"there is no tracker {name!r}; known are {', '.join(TRACKERS)}")
    with needs_extra("track", f"--track {name}"):
        import accelerate.tracking  # noqa: F401
    if importlib.util.find_spec(name) is None:
        raise BadInput(f"--track {name} needs the package {name}: pip install {name}")
    return lambda output, options: AccelerateTracker(name, output, options)


class AccelerateTracker:
    """A tracker of Accelerate.

    If the tracker fails, the failure is logged once, and the training continues without it.
    """

    def __init__(self, name: str, output: Path, options: Mapping[str, object]) -> None:
        """Starts the program `name` for the training in the folder `output`."""
        self._name, self._works = name, True
        self._tracker: Any = None
        self._network: Efficientnet | None = None
        self._photos: Features | None = None
        self._try(lambda: self._begin(output, options))

    def _begin(self, output: Path, options: Mapping[str, object]) -> None:
        from accelerate import PartialState

        PartialState()  # the adapters ask it whether this is the main process
        self._tracker = _STARTS[self._name](output)
        self._tracker.start()
        plain = (bool, int, float, str)
        self._tracker.store_init_configuration(
            {key: value if isinstance(value, plain) else str(value) for key, value in options.items()}
        )

    def report(self, values: Mapping[str, float], images_seen: int) -> None:
        """Logs losses and logits."""
        self._try(lambda: self._tracker.log(dict(values), step=images_seen))

    def show(self, grid: NDArray[np.uint8], file: Path, images_seen: int) -> None:
        """Logs the grid."""
        self._try(lambda: _SHOWS[self._name](self._tracker, grid, file, images_seen))

    def compare(self, photos: Tensor, generated: Tensor, images_seen: int) -> None:
        """Logs KID x 1000. The sample is small, so compare values only within the same training."""
        if len(photos) >= FEWEST:
            self._try(lambda: self.report({"kid_x_1000": 1000 * self._kid(photos, generated)}, images_seen))

    def _kid(self, photos: Tensor, generated: Tensor) -> float:
        if self._network is None or self._photos is None:
            self._network = Efficientnet(torch.device("cpu"))
            self._photos = self._network.extract(photos)
        found = self._network.extract(generated)
        return kernel_distance(self._photos, found, half_samples=_HALF_SAMPLES).value

    def finish(self) -> None:
        """Closes the tracker."""
        self._try(lambda: self._tracker.finish())

    def _try(self, call: Callable[[], object]) -> None:
        if not self._works:
            return
        try:
            call()
        except Exception as error:
            log.warning("the tracker %s failed (%r); the training continues without it", self._name, error)
            self._works = False


def _tensorboard(output: Path) -> Any:
    from accelerate.tracking import TensorBoardTracker

    # TensorBoard imports TensorFlow if that is installed. This takes seconds, and the process crashes if
    # triton is imported later. If a module named `tensorboard.compat.notf` exists, TensorBoard uses its own
    # small substitute for TensorFlow.
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
    return TensorBoardTracker("tensorboard", output)


def _mlflow(output: Path) -> Any:
    from accelerate.tracking import MLflowTracker

    return MLflowTracker(PROJECT, run_name=output.name)


def _wandb(output: Path) -> Any:
    from accelerate.tracking import WandBTracker

    return WandBTracker(PROJECT, name=output.name, dir=str(output))


def _trackio(output: Path) -> Any:
    from accelerate.tracking import TrackioTracker

    return TrackioTracker(PROJECT, name=output.name)


def _show_in_tensorboard(tracker: Any, grid: NDArray[np.uint8], file: Path, images_seen: int) -> None:
    tracker.log_images({"grid": grid[None]}, step=images_seen, dataformats="NHWC")


def _show_in_mlflow(tracker: Any, grid: NDArray[np.uint8], file: Path, images_seen: int) -> None:
    tracker.log_artifact(str(file), artifact_path="grids")


def _show_in_wandb(tracker: Any, grid: NDArray[np.uint8], file: Path, images_seen: int) -> None:
    tracker.log_images({"grid": [grid]}, step=images_seen)


def _show_in_trackio(tracker: Any, grid: NDArray[np.uint8], file: Path, images_seen: int) -> None:
    import trackio

    tracker.log({"grid": trackio.Image(grid)}, step=images_seen)


_STARTS: Final[Mapping[str, Callable[[Path], Any]]] = MappingProxyType(
    {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb, "trackio": _trackio}
)
_SHOWS: Final[Mapping[str, Callable[[Any, NDArray[np.uint8], Path, int], None]]] = MappingProxyType(
    {
        "tensorboard": _show_in_tensorboard,
        "mlflow": _show_in_mlflow,
        "wandb": _show_in_wandb,
        "trackio": _show_in_trackio,
    }
)
