"""What a retraining costs on this machine: its precision and its budget. A part of the benchmark `shop`."""

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from tests.benchmarks.training import random_photos, step
from tests.toygan.training.tiny import changed
from toygan.approval.measures import measure
from toygan.artifact.config import config_of
from toygan.artifact.model import Model
from toygan.calibration.sampling import generate_of_category
from toygan.conditions.product import ProductConditions
from toygan.device import fastest_precision
from toygan.evaluation.features import Efficientnet
from toygan.registry.models import resolve
from toygan.retraining.budget import Budget, Speeds, make_budget
from toygan.retraining.learn import fine_tuning
from toygan.retraining.snapshot import Contents
from toygan.training.config import TrainConfig
from toygan.training.presets import PRESETS
from toygan.training.state import start

CPU = torch.device("cpu")
TIMED_PRESETS = ("dcgan",)
ROUNDS = 4  # one round of the lazy penalties
MAX_IMAGES, MAX_MINUTES, PICTURES = 64_000, 360.0, 1000  # the defaults of a retraining
# Photos of a category of the bundled model: 4,221 of ten categories, a tenth of them for each of the two.
PHOTOS = {"train": 338, "calibration": 42, "val": 42}


def steps_s(config: TrainConfig, precisions: Sequence[str]) -> list[float]:
    """Seconds of CPU of some training steps for each precision, turn by turn."""
    photos = random_photos(config)
    configs = [changed(config, precision=precision) for precision in precisions]
    states = [start(each, categories=len(photos.categories), device=CPU) for each in configs]
    spent = [0.0] * len(configs)
    for number in range(1 + ROUNDS):  # the first round prepares kernels and is not timed
        for arm, (state, own) in enumerate(zip(states, configs, strict=True)):
            began_s = time.process_time()
            step(state, photos, own)
            spent[arm] += (time.process_time() - began_s) * (number > 0)
    return spent


def auto_by_better(preset: str) -> float:
    """The time of a step in the precision that `auto` chooses, by that of the better of fp32 and bf16."""
    chosen, _ = fastest_precision(CPU)
    auto_s, fp32_s, bf16_s = steps_s(PRESETS[preset], (chosen, "fp32", "bf16"))
    return auto_s / min(fp32_s, bf16_s)


def budget(model: Model, products: Sequence[ProductConditions]) -> Budget:
    """The budget of a retraining of the bundled model, from the speeds of this machine.

    `products` are a batch of one category. The speeds are measured as `toygan.retraining.speeds` does.
    """
    champion = resolve(None, None)
    config = fine_tuning(config_of(champion), MAX_IMAGES)
    own = changed(config, precision=fastest_precision(CPU)[0])
    photos = random_photos(own)
    text_size = model.config.networks.text_size
    photos = replace(photos, text=torch.nn.functional.normalize(torch.randn(len(photos), text_size), dim=1))
    state = start(own, categories=len(photos.categories), device=CPU, texts=photos.text)
    times_s = []
    for _ in range(ROUNDS):
        step(state, photos, own)
        times_s.append(time.monotonic())
    train_s = (times_s[-1] - times_s[0]) / (ROUNDS - 1) / own.data.batch_size
    generate_s, look_s = _picture_s(model, products)
    contents = Contents(
        uploads=0,
        others=0,
        left_out={},
        titled=0,
        broken=0,
        by_category=dict.fromkeys(model.categories, PHOTOS),
    )
    return make_budget(
        Speeds(train_s=train_s, generate_s=generate_s, look_s=look_s),
        contents,
        batch_size=own.data.batch_size,
        max_images=MAX_IMAGES,
        max_minutes=MAX_MINUTES,
        pictures=PICTURES,
    )


def _picture_s(model: Model, products: Sequence[ProductConditions]) -> tuple[float, float]:
    size, network = len(products), Efficientnet(CPU)
    for _ in range(2):
        began_s = time.monotonic()
        generated = generate_of_category(model, "timing", products[0].category, products, range(size), size)
        measure(generated.pixels, [product.colour_hex for product in products])
        made_s = time.monotonic()
        network.extract(torch.from_numpy(generated.pixels).permute(0, 3, 1, 2), lambda count: None)
        seen_s = time.monotonic()
    return (made_s - began_s) / size, (seen_s - made_s) / size
