"""Measures how fast this machine trains and generates, before a retraining starts."""

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import torch

from toygan.approval.measures import measure
from toygan.artifact.config import config_of
from toygan.artifact.load import load_model
from toygan.calibration.photos import photos_of
from toygan.calibration.sampling import generate_of_category
from toygan.disk import replace_file
from toygan.errors import BadInput, RunFailed
from toygan.evaluation.evaluate import FEWEST
from toygan.evaluation.features import Efficientnet
from toygan.generation.engine import default_batch_size
from toygan.registry.models import resolve
from toygan.retraining.budget import Budget, Speeds, make_budget
from toygan.retraining.learn import fine_tuning
from toygan.retraining.plan import Attempt, hopeless_if_unusable
from toygan.retraining.snapshot import known_products
from toygan.training.config import TrainConfig
from toygan.training.limits import Limits
from toygan.training.train import train

BUDGET: Final = "budget.json"
_TRIED_STEPS: Final = 4  # number of training steps; the first step prepares kernels and is not timed


def budget_of(attempt: Attempt, *, max_minutes: float, pictures: int, device: torch.device) -> Budget:
    """Measures the speed of this machine and returns the budget. A resumed retraining keeps its first budget.

    Raises RunFailed for photos that cannot be used, and else the errors of `make_budget` and `learn`.
    """
    file = attempt.folder / BUDGET
    if file.exists():
        return _read(file)
    champion = resolve(str(attempt.champion), None)
    config = fine_tuning(config_of(champion), attempt.plan.max_images)
    with hopeless_if_unusable():
        speeds = _try_out(attempt, config, device)
    budget = make_budget(
        speeds,
        attempt.plan.contents,
        batch_size=config.data.batch_size,
        max_images=attempt.plan.max_images,
        max_minutes=max_minutes,
        pictures=pictures,
    )
    replace_file(file, json.dumps(asdict(budget), indent=1).encode())
    return budget


def _read(file: Path) -> Budget:
    try:
        return Budget(**json.loads(file.read_bytes()))
    except (TypeError, ValueError, RecursionError) as error:
        raise RunFailed(f"{file} is damaged ({error!r})") from error


def _try_out(attempt: Attempt, config: TrainConfig, device: torch.device) -> Speeds:
    """Measures the time of a few training steps and of a batch of the champion's pictures."""
    champion = resolve(str(attempt.champion), None)
    times_s: list[float] = []

    def stop() -> bool:
        """Records the time before each step; returns True after `_TRIED_STEPS` steps."""
        times_s.append(_now_s(device))
        return len(times_s) > _TRIED_STEPS

    with TemporaryDirectory(dir=attempt.folder) as folder:
        train(
            photos_uri=attempt.photos,
            output=Path(folder),
            config=config,
            device=device,
            limits=Limits(should_stop=stop),
            init=champion,
        )
    train_s = (times_s[-1] - times_s[1]) / (len(times_s) - 2) / config.data.batch_size
    generate_s, look_s = _try_pictures(attempt, device)
    return Speeds(train_s=train_s, generate_s=generate_s, look_s=look_s)


def _try_pictures(attempt: Attempt, device: torch.device) -> tuple[float, float]:
    """Returns two durations in seconds for one picture: to generate it, and to extract its features.

    Raises BadInput if fewer photos can be used than the comparison will need.
    """
    model = load_model(resolve(str(attempt.champion), None), device)
    is_known = known_products(attempt.photos, model.categories)
    found = photos_of(model, attempt.photos, split="val", keep_sku=is_known)
    if len(found) < FEWEST:
        raise BadInput(
            f"only {len(found)} photos of the champion's categories in the split 'val' can be used, but "
            f"{FEWEST} are needed to measure with; the log says why the others cannot be used"
        )
    photos = found.with_text(model.text_encoder)
    size, network = default_batch_size(model), Efficientnet(device)
    numbers = range(size)
    category = model.categories[int(photos.category[0])]
    products = [replace(photos.product(number % len(photos)), category=category) for number in numbers]
    times_s = []
    for _ in range(2):  # the first round prepares kernels and is not timed
        times_s.append(_now_s(device))
        generated = generate_of_category(model, "timing", category, products, numbers, size)
        measure(generated.pixels, [product.colour_hex for product in products])
        times_s.append(_now_s(device))
        network.extract(torch.from_numpy(generated.pixels).permute(0, 3, 1, 2), lambda count: None)
        times_s.append(_now_s(device))
    return (times_s[4] - times_s[3]) / size, (times_s[5] - times_s[4]) / size


def _now_s(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()
