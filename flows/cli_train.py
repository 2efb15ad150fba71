"""The command `toygan train`."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.options import device_option, photos_option, store_option

if TYPE_CHECKING:
    from toygan.artifact.files import ModelFiles
    from toygan.training.config import TrainConfig


@click.command()
@photos_option
@click.option(
    "--recipe",
    metavar="NAME",
    help="Make a model by a recipe, with all trainings and the calibration. The name of a bundled model or "
    "of another recipe, or a .toml file; see toygan/training/README.md.",
)
@click.option(
    "--family",
    help="Model family or preset, see toygan/training/README.md; default: that of --init, else dcgan.",
)
@click.option(
    "--resolution", type=int, metavar="N", help="Side in pixels, a power of two; default: the preset's."
)
@click.option("--output", required=True, type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON file with options that override the preset.",
)
@click.option(
    "--max-images",
    type=click.IntRange(1),
    metavar="N",
    help="The largest number of training images; with --recipe, of each of its trainings.",
)
@click.option("--max-minutes", type=click.FloatRange(min=0, min_open=True), metavar="M")
@click.option("--resume", is_flag=True, help="Resume the training in --output.")
@click.option(
    "--track",
    metavar="PROGRAM",
    help="Also show losses, grids and the KID of a small sample in tensorboard, mlflow, wandb or trackio.",
)
@click.option(
    "--init",
    metavar="MODEL",
    help="Start from this model's weights: NAME[@VERSION|alias], ./FOLDER or hf:OWNER/NAME. Without --family "
    "the options of its last training apply, too. The categories may differ.",
)
@click.option(
    "--first-stage",
    "first_stages",
    multiple=True,
    metavar="MODEL",
    help="For an enhancer: it learns to enlarge this model's pictures, NAME[@VERSION|alias], ./FOLDER or "
    "hf:OWNER/NAME; may be repeated. Without this option it learns from reduced photos only.",
)
@store_option
@device_option
def train(
    photos: str, recipe: str | None, output: Path, device: str, track: str | None, **options: Any
) -> None:
    """Train a model on photos; checkpoints, grids and a log go to --output.

    Ctrl-C or SIGTERM ends the training after its current step, with a checkpoint and the weights so far.
    """
    from flows.stopping import asked_to_stop
    from toygan.device import pick_device

    with asked_to_stop() as should_stop, _tracked(track):
        common: dict[str, Any] = {
            "photos_uri": photos,
            "output": output,
            "device": pick_device(device),
            "should_stop": should_stop,
        }
        if recipe is None:
            line = _train_one(**common, **options)
        else:
            line = _run_recipe(recipe, options.pop("max_images"), options.pop("resume"), common, options)
    click.echo(line)


def _tracked(name: str | None) -> AbstractContextManager[None]:
    if name is None:
        return nullcontext()
    from toygan.evaluation.trackers import tracker
    from toygan.training.tracking import tracked_by

    return tracked_by(tracker(name))


def _run_recipe(
    recipe: str, max_images: int | None, resume: bool, common: dict[str, Any], options: dict[str, Any]
) -> str:
    from toygan.errors import BadInput
    from toygan.training.recipe import read_recipe
    from toygan.training.run_recipe import RecipeRun, run_recipe

    if given := sorted(name for name, value in options.items() if value):
        names = ", ".join(f"--{name.removesuffix('s').replace('_', '-')}" for name in given)
        raise BadInput(f"{names} cannot be given with --recipe, because the recipe sets these options")
    folder = run_recipe(RecipeRun(recipe=read_recipe(recipe), max_images=max_images, resume=resume, **common))
    if folder is None:
        sys.exit("stopped; continue by the same command with --resume")
    return f"the model is in {folder}"


def _train_one(
    *, photos_uri: str, output: Path, device: Any, should_stop: Callable[[], bool], **options: Any
) -> str:
    from toygan.registry.models import resolve
    from toygan.storage.open_store import open_store
    from toygan.training.limits import Limits
    from toygan.training.train import train as run_training

    models = open_store(options["store"]) if options["store"] else None
    init = None if options["init"] is None else resolve(options["init"], models)
    chosen = _choose(init, options["family"], resolution=options["resolution"], file=options["config"])
    folder = run_training(
        photos_uri=photos_uri,
        output=output,
        config=chosen,
        device=device,
        limits=Limits(
            max_images=options["max_images"], max_minutes=options["max_minutes"], should_stop=should_stop
        ),
        resume=options["resume"],
        init=init,
        first_stages=[resolve(each, models) for each in options["first_stages"]],
    )
    if should_stop():
        sys.exit(f"stopped; the weights so far are in {folder}; continue by the same command with --resume")
    if chosen.networks().needs_small_picture:
        return f"the enhancer is in {folder}"
    command = f"toygan calibrate --model {folder} --photos {photos_uri}"
    return f"the model is in {folder}; calibrate it next: {command}"


def _choose(init: "ModelFiles | None", family: str | None, **changes: Any) -> "TrainConfig":
    """Takes the options of a preset. Without a given family, takes those of the initial model."""
    from toygan.artifact.config import config_of
    from toygan.training.choose import choose_config, config_of_model

    if init is not None and family is None:
        return config_of_model(config_of(init, may_enlarge=True), **changes)
    return choose_config(family or "dcgan", **changes)
