"""How fast networks train and draw, and what a training takes of memory.

Every figure comes from a process of its own with two threads. Speeds: one process trains the same model
twice, in bf16 channels-last and in float32 NCHW, turn by turn, so that whatever else the machine does slows
down both; as many steps each as make one round of the lazy penalties. Memory: the largest resident set
(VmHWM) of such a process.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.shards import photo_row, training_skus, write_shard
from tests.toygan.training.tiny import changed
from toygan.conditions.colour import encode_colours
from toygan.conditions.text_config import TextConfig, TextFields
from toygan.data.photos import PhotoSet
from toygan.training.batches import epoch_rows, sample_batch, step_rng
from toygan.training.config import TrainConfig
from toygan.training.limits import Limits
from toygan.training.objectives import PATH_LENGTH_EVERY_STEPS
from toygan.training.presets import PRESETS
from toygan.training.state import TrainState, start
from toygan.training.step import train_step
from toygan.training.train import train

THREADS = 2
REFERENCE = {  # widths of the reference implementation
    "latent_size": 512,
    "style_size": 512,
    "mapping_layers": 8,
    "channel_base": 16_384,
    "max_channels": 512,
}
REFERENCE_BATCH = 8
COLOURS = ("#B40000", "#1E5AA8", "#FAC80A", "#00852B", "#F4F4F4", "#1B2A34")
CATEGORIES = tuple(f"category-{number}" for number in range(10))
RESUME_STEPS = 4  # before the checkpoint and after it
RETURNING = {"MALLOC_MMAP_THRESHOLD_": "131072"}  # what is freed goes back to the kernel at once
DRAWN_BATCHES = 6
CPU = torch.device("cpu")


def random_photos(config: TrainConfig, count: int = 64) -> PhotoSet:
    """Noise: how long a step takes does not depend on what the photos show."""
    rng = torch.Generator().manual_seed(0)
    side = config.resolution
    hexes = tuple(COLOURS[number % len(COLOURS)] for number in range(count))
    condition = config.networks().image_condition
    highest = 256 if condition == "sketch" else 14
    lines = None
    if config.network.get("lines"):
        lines = torch.randint(0, 256, (count, side, side), generator=rng, dtype=torch.uint8)
    return PhotoSet(
        images=torch.randint(0, 256, (count, 3, side, side), generator=rng, dtype=torch.uint8),
        category=torch.arange(count) % len(CATEGORIES),
        colour=encode_colours(hexes),
        colour_hexes=hexes,
        finishes=(None,) * len(hexes),
        words=(TextFields(),) * count,
        skus=tuple(f"sku-{number}" for number in range(count)),
        categories=CATEGORIES,
        text_config=TextConfig(accent_colours=config.conditions.accent_colours),
        lines=lines,
        image_condition=condition,
        condition_images=None
        if condition is None
        else torch.randint(0, highest, (count, side, side), generator=rng, dtype=torch.uint8),
    )


def step(state: TrainState, photos: PhotoSet, config: TrainConfig) -> None:
    """One step as `fit` takes it."""
    rng = step_rng(config.data.seed, state.images_seen)
    rows = epoch_rows(len(photos), config, state.images_seen)
    probability = None if state.augmentation is None else state.augmentation.probability
    batch = sample_batch(photos, rows, config, state.generator.latent_size, rng, probability)
    train_step(state, batch, config, rng)
    state.images_seen += config.data.batch_size


@contextmanager
def nchw() -> Iterator[None]:
    """The same code with pictures and weights the other way round in memory: the families ask torch for
    channels-last by this name."""
    kept = torch.channels_last
    torch.channels_last = torch.contiguous_format
    try:
        yield
    finally:
        torch.channels_last = kept


@contextmanager
def channels_last() -> Iterator[None]:
    yield


def measure_step(config: TrainConfig) -> dict[str, float]:
    """Images a second of both ways to train, over one round of the lazy penalties after one to warm up."""
    ways = {"bf16": ("bf16", channels_last), "fp32": ("fp32", nchw)}
    rounds = max(
        config.objective.penalty_every_steps if config.objective.r1_gamma else 1,
        PATH_LENGTH_EVERY_STEPS if config.objective.path_length_weight else 1,
        4,
    )
    configs = {name: changed(config, precision=precision) for name, (precision, _) in ways.items()}
    photos = random_photos(config)
    states, elapsed_s = {}, dict.fromkeys(ways, 0.0)
    for name, (_, layout) in ways.items():
        with layout():
            states[name] = start(configs[name], categories=len(CATEGORIES), device=CPU)
            step(states[name], photos, configs[name])
    for _ in range(rounds):
        for name, (_, layout) in ways.items():
            with layout():
                began_s = time.perf_counter()
                step(states[name], photos, configs[name])
                elapsed_s[name] += time.perf_counter() - began_s
    images = rounds * config.data.batch_size
    speeds = {f"{name}_images_per_s": images / seconds for name, seconds in elapsed_s.items()}
    return speeds | {"ratio": elapsed_s["fp32"] / elapsed_s["bf16"]}


@torch.inference_mode()
def measure_drawing(config: TrainConfig) -> dict[str, float]:
    """Images a second of the generator as the pipeline runs it: averaged weights, float32, one batch size."""
    state = start(config, categories=len(CATEGORIES), device=CPU)
    photos = random_photos(config)
    conditions = photos.conditions(torch.arange(config.data.batch_size))
    latents = torch.randn(config.data.batch_size, state.ema.latent_size)
    state.ema.forward_truncated(latents, conditions, 1.0)
    began_s = time.perf_counter()
    for _ in range(DRAWN_BATCHES):
        state.ema.forward_truncated(latents, conditions, 1.0)
    elapsed_s = time.perf_counter() - began_s
    return {
        "drawn_images_per_s": DRAWN_BATCHES * config.data.batch_size / elapsed_s,
        "generator_weights": float(count_weights(state.generator)),
        "discriminator_weights": float(count_weights(state.discriminator)),
    }


def measure_memory(config: TrainConfig) -> dict[str, float]:
    """MiB: the peak of a process that takes two steps, the first of which has all lazy penalties."""
    photos = random_photos(config)
    before = peak_mib()
    state = start(config, categories=len(CATEGORIES), device=CPU)
    for _ in range(2):
        step(state, photos, config)
    return {"peak_mib": peak_mib(), "peak_before_mib": before}


def measure_training(config: TrainConfig, output: Path, images: int, *, resume: bool) -> dict[str, float]:
    """MiB: the peak of `toygan train` from where `output` stands up to `images`."""
    rows = [
        photo_row(sku, CATEGORIES[number % len(CATEGORIES)]) for number, sku in enumerate(training_skus(64))
    ]
    photos = write_shard(output.with_name("photos"), rows)
    train(
        photos_uri=photos,
        output=output,
        config=config,
        device=CPU,
        limits=Limits(max_images=images),
        resume=resume,
    )
    return {"peak_mib": peak_mib()}


def peak_mib() -> float:
    """Of this process; what the kernel gives its parent begins with the parent's own memory."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def count_weights(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def in_child(
    what: str, config: TrainConfig, environment: Mapping[str, str] | None = None, **options: Any
) -> dict[str, float]:
    """The figures of one measurement, made in a fresh process."""
    request = json.dumps({"what": what, "config": config.to_json(), **options})
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.training", "--child", request],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": str(THREADS), **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def child(request: dict[str, Any]) -> dict[str, float]:
    torch.set_num_threads(THREADS)
    config = TrainConfig.from_json(request["config"])
    match request["what"]:
        case "step":
            return measure_step(config)
        case "drawing":
            return measure_drawing(config)
        case "memory":
            return measure_memory(config)
    return measure_training(
        config, Path(request["output"]), request["images"], resume=request["what"] == "resume"
    )


def measure_resume(config: TrainConfig) -> dict[str, float]:
    """MiB: the peaks of a training that goes straight through and of one that resumes at a checkpoint.

    Both write another one in the end. `RETURNING` keeps holes in the C library's heap out of the figures,
    which differ from run to run by a tenth of the peak.
    """
    half = RESUME_STEPS * config.data.batch_size
    config = changed(config, checkpoint_every_images=half, log_every_images=half)
    with tempfile.TemporaryDirectory(prefix="toygan-benchmark-") as folder:
        whole, parts = f"{folder}/straight", f"{folder}/resumed"
        straight = in_child("straight", config, RETURNING, output=whole, images=2 * half)
        in_child("straight", config, RETURNING, output=parts, images=half)
        resumed = in_child("resume", config, RETURNING, output=parts, images=2 * half)
    peaks = {"straight_mib": straight["peak_mib"], "resumed_mib": resumed["peak_mib"]}
    return peaks | {"ratio": peaks["resumed_mib"] / peaks["straight_mib"]}


def measure() -> dict[str, Any]:
    """Measures all figures and prints each at once: together they take ten minutes."""
    reference = changed(PRESETS["stylegan"], network=REFERENCE, resolution=64, batch_size=REFERENCE_BATCH)
    figures: dict[str, Any] = {"reference": {**in_child("step", reference), **in_child("drawing", reference)}}
    _show_reference(figures["reference"])
    print(f"{'training, images/s at 64 pixels':<40} {'bf16':>8} {'fp32':>8} {'ratio':>6}", flush=True)
    _show_step("stylegan, reference's widths", figures["reference"])
    figures["presets"] = {}
    for family, config in PRESETS.items():
        networks = config.networks()
        if networks.needs_small_picture or networks.image_condition == "photo":
            continue  # it learns from crops, or from snapshots that are made again for each step
        figures["presets"][family] = in_child("step", changed(config, resolution=64))
        _show_step(family, figures["presets"][family])
    large = changed(PRESETS["stylegan"], resolution=256, batch_size=16)
    figures["stylegan_256_batch_16"] = memory = in_child("memory", large)
    print(f"stylegan, 256 pixels, batch 16: {memory['peak_mib']:,.0f} MiB at most,", end=" ")
    print(f"{memory['peak_before_mib']:,.0f} MiB before the networks are made", flush=True)
    for name, config in (("resume_stylegan", PRESETS["stylegan"]), ("resume_reference", reference)):
        figures[name] = row = measure_resume(config)
        print(f"{name}: {row['straight_mib']:,.0f} MiB straight, {row['resumed_mib']:,.0f} MiB", end=" ")
        print(f"resumed, {100 * (row['ratio'] - 1):+.2f} % (under 1 %)", flush=True)
    return figures


def _show_reference(row: Mapping[str, float]) -> None:
    millions = [row[f"{network}_weights"] / 1e6 for network in ("generator", "discriminator")]
    print(f"stylegan, reference's widths: {millions[0]:.1f} M and {millions[1]:.1f} M weights")
    print(f"  training (at least 0.8): {row['bf16_images_per_s']:.2f} images/s")
    print(f"  drawing in float32 (at least 6): {row['drawn_images_per_s']:.2f} images/s", flush=True)


def _show_step(name: str, row: Mapping[str, float]) -> None:
    speeds = " ".join(f"{row[way]:>8.2f}" for way in ("bf16_images_per_s", "fp32_images_per_s"))
    print(f"{name:<40} {speeds} {row['ratio']:>6.2f}", flush=True)


def main() -> None:
    """Print a table; with --json FILE write the figures there too."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", type=json.loads)
    arguments, _ = parser.parse_known_args()
    if arguments.child:
        print(json.dumps(child(arguments.child)))
        return
    figures = measure()
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
