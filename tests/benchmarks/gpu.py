"""What training at 256 and 512 pixels costs on a GPU: `python -m tests.benchmarks gpu`.

Takes two steps of every training of the `RECIPES` on this machine and counts the floating-point operations of
the second, as torch does (convolutions and matrix products, forwards and backwards). Hours and prices follow
from them and from three assumptions, which are printed. The share of the peak that is used is what an H100
gave `spade-256`, 173 images a second in batches of 32 (`pix2pix-256`, 328 a second: 0.032): its steps wait
for the CPU, which starts thousands of small kernels.

    python -m tests.benchmarks.gpu [--peak-tflops 989] [--utilisation 0.022] [--dollars-per-hour 3]
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks.training import CATEGORIES, CPU, random_photos, step
from toygan.training.config import TrainConfig
from toygan.training.recipe import Stage, read_recipe
from toygan.training.state import start

RECIPES = ("projected-text512", "pix2pix-256", "pix2pix-512", "spade-256", "spade-512")
TEXT_SIZE = 384
BATCH = 2


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """`peak_tflops` is that of the GPU in bf16 without sparsity: 989 for an H100."""

    peak_tflops: float = 989.0
    utilisation: float = 0.022  # share of the peak that small convolutions reach
    dollars_per_hour: float = 3.0

    def hours(self, flops: float) -> float:
        return flops / (self.peak_tflops * 1e12 * self.utilisation) / 3600


def stages() -> Iterator[tuple[str, Stage]]:
    """The trainings of all recipes, each with a name for the table."""
    for name in RECIPES:
        for stage in read_recipe(name).stages:
            yield f"{name} {stage.name}", stage


def flops_per_image(config: TrainConfig) -> float:
    """Of the second step, in batches of `BATCH`: operations grow with the batch, all else is left out."""
    config = replace(
        config,  # the changes change no count
        data=replace(config.data, batch_size=BATCH),
        optimizer=replace(config.optimizer, precision="fp32"),
    )
    rng = torch.Generator().manual_seed(0)
    photos = replace(random_photos(config, count=8), text=torch.randn((8, TEXT_SIZE), generator=rng))
    state = start(config, categories=len(CATEGORIES), device=CPU, texts=photos.text)
    step(state, photos, config)
    with FlopCounterMode(display=False) as counter:
        step(state, photos, config)
    return float(counter.get_total_flops()) / BATCH


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser()
    defaults = Assumptions()
    parser.add_argument("--peak-tflops", type=float, default=defaults.peak_tflops)
    parser.add_argument("--utilisation", type=float, default=defaults.utilisation)
    parser.add_argument("--dollars-per-hour", type=float, default=defaults.dollars_per_hour)
    assumed = Assumptions(**vars(parser.parse_args(arguments)))
    print(
        f"assumed: {assumed.peak_tflops:g} TFLOPS at most, {assumed.utilisation:.0%} of them used, "
        f"${assumed.dollars_per_hour:g} an hour"
    )
    print(f"{'recipe and stage':<27} {'GFLOP an image':>15} {'images':>11} {'GPU hours':>10} {'$':>6}")
    for name, stage in stages():
        flops = flops_per_image(stage.config)
        hours = assumed.hours(flops * stage.images)
        print(
            f"{name:<27} {flops / 1e9:>15.1f} {stage.images:>11,} {hours:>10.1f} "
            f"{hours * assumed.dollars_per_hour:>6.0f}",
            flush=True,
        )


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
