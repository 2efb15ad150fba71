"""The command `toygan`.

The commands import heavy packages only when they run, because `--help` must be quick.
"""

import copy
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flows.cli_calibrate import calibrate
from flows.cli_catalog import catalog as catalog_commands
from flows.cli_export import export, inspect
from flows.cli_models import models
from flows.cli_review import decide, review
from flows.cli_train import train
from flows.cli_uploads import uploads
from flows.exits import FAILED, one_line, quick_exit
from flows.options import (
    MODE_HELP,
    batch_size_option,
    device_option,
    map_option,
    model_option,
    photos_option,
    special_model_option,
    store_option,
)

if TYPE_CHECKING:
    from toygan.evaluation.features import FeatureNetworkName


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="toygan")
@click.option("-v", "--verbose", is_flag=True, help="Log more, and print tracebacks.")
def cli(verbose: bool) -> None:
    """Product pictures for toy shops, made by GANs in a batch pipeline."""
    handler = logging.StreamHandler()
    handler.setFormatter((logging.Formatter if verbose else _OneLine)("%(levelname)s %(name)s: %(message)s"))
    if not verbose:
        # The error of a flow is raised in this process, and main() prints it. Prefect must not print it
        # again.
        handler.addFilter(lambda record: record.name != "prefect.flow_runs")
    logging.basicConfig(handlers=[handler], level="INFO" if verbose else "WARNING")


class _OneLine(logging.Formatter):
    """Formats log lines without tracebacks, because the message of an error says what a user can do."""

    def format(self, record: logging.LogRecord) -> str:
        bare = copy.copy(record)
        bare.exc_info = bare.exc_text = None
        return super().format(bare)


def main() -> None:
    """Runs a command.

    Exits with 0 (done), 1 (failed, a retry may help) or 2 (bad input, a retry will not help).
    """
    if "review" not in sys.argv[1:3]:  # `toygan review` sets up Arrow's memory first
        # Before torch: loaded after it, a finished process once ended with SIGABRT.
        import pyarrow  # noqa: F401
    with one_line():
        cli(prog_name="toygan", standalone_mode=False)


def run() -> None:
    """`main` as the program `toygan` and as `python -m flows.cli`."""
    with quick_exit():
        main()


def generate_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options that `demo` and `generate` share."""
    for option in (
        model_option(
            "main",
            "--model",
            "NAME[@VERSION|alias], ./FOLDER or hf:OWNER/NAME; default: the champion, else the bundled one.",
        ),
        special_model_option("sketch"),
        special_model_option("layout"),
        special_model_option("photo"),
        click.option("--images-per-product", type=click.IntRange(1, 64), default=1, show_default=True),
        click.option(
            "--category", "categories", multiple=True, help="Only products of this category; may be repeated."
        ),
        click.option(
            "--mode",
            type=click.Choice(["missing", "refresh", "retry", "all"]),
            default="missing",
            show_default=True,
            help=MODE_HELP,
        ),
        click.option(
            "--retire",
            type=click.FloatRange(0, 1),
            is_flag=False,
            flag_value=0.1,
            metavar="[SHARE]",
            help="Withdraw the pictures of products that left the catalog; `toygan catalog gone` lists them. "
            "The run stops at its start if these are more than SHARE (default: 0.1) of the products with "
            "pictures.",
        ),
        click.option(
            "--limit",
            type=click.IntRange(1),
            metavar="N",
            help="Only the first N good products of the catalog.",
        ),
        click.option(
            "--format",
            "image_format",
            type=click.Choice(["webp", "jpg", "png"]),
            default="webp",
            show_default=True,
        ),
        device_option,
        batch_size_option,
        click.option(
            "--run-id",
            metavar="ID",
            help="Name of the run; give the name of an interrupted run to resume it.",
        ),
    ):
        command = option(command)
    return command


@cli.command()
@click.option(
    "--output", metavar="URI", default="toygan-demo", show_default=True, help="Folder or s3://BUCKET."
)
@generate_options
def demo(output: str, **options: Any) -> None:
    """Generate pictures for the bundled catalog with the bundled models."""
    from importlib.resources import as_file, files

    with as_file(files("toygan") / "pretrained" / "demo_catalog.parquet") as catalog:
        _generate(catalog=str(catalog), output=output, **options)


@cli.command()
@click.option(
    "--catalog",
    required=True,
    metavar="URI",
    help="A path or s3://BUCKET/KEY: Parquet, CSV, TSV, .xlsx, Shopify or Merchant Center; or a folder of "
    "snapshots, CATEGORY/SKU.jpg.",
)
@map_option
@click.option("--output", required=True, metavar="URI", help="Folder or s3://BUCKET/PREFIX.")
@generate_options
def generate(catalog: str, output: str, **options: Any) -> None:
    """Generate, score and store pictures of those products of a catalog that have none. --mode chooses other
    products.
    """
    _generate(catalog=catalog, output=output, **options)


def _generate(**options: Any) -> None:
    from toygan.memory import limit_arenas

    limit_arenas(1)  # before imports that start threads
    from flows.local import run_generate

    click.echo(run_generate(**options).text())


@cli.command()
@click.option(
    "--model",
    required=True,
    metavar="NAME",
    help="./FOLDER, hf:OWNER/NAME, or NAME[@VERSION|alias] of a store.",
)
@photos_option
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--pictures", type=click.IntRange(10), default=1000, show_default=True, metavar="N")
@click.option(
    "--features",
    type=click.Choice(["efficientnet", "inception"]),
    default="efficientnet",
    show_default=True,
    help="The feature network. The weights of inception must be downloaded before.",
)
@click.option(
    "--inception-weights",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file with the weights of inception. By default it is in torch's download folder.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--pairs",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a PNG with the pictures that are nearest to a training photo, each above this photo.",
)
@device_option
def evaluate(
    model: str,
    photos: str,
    store: str | None,
    as_json: bool,
    pictures: int,
    features: "FeatureNetworkName",
    inception_weights: Path | None,
    seed: int,
    pairs: Path | None,
    device: str,
) -> None:
    """Measure a model's pictures against the photos of the split val."""
    from toygan.device import pick_device
    from toygan.disk import disk_errors
    from toygan.errors import BadInput
    from toygan.evaluation.evaluate import evaluate_model, pairs_png

    if pairs and not pairs.absolute().parent.is_dir():
        raise BadInput(f"--pairs {pairs}: there is no folder {pairs.parent}; make it, or give another one")
    evaluation = evaluate_model(
        model,
        photos=photos,
        store_uri=store,
        device=pick_device(device),
        pictures=pictures,
        seed=seed,
        feature_network=features,
        inception_weights=inception_weights,
    )
    click.echo(evaluation.to_json() if as_json else evaluation.text())
    if pairs:
        with disk_errors(pairs, "the figures are printed"):
            pairs.write_bytes(pairs_png(evaluation.closest))


@cli.command()
@click.argument("uri")
@click.option(
    "--prune", is_flag=True, help="Before the check, remove the files that no run and no decision needs."
)
def verify(uri: str, prune: bool) -> None:
    """Check that a store is complete: exit 0, or 1 with one line for each problem."""
    from toygan.progress import Progress
    from toygan.publishing.verify import prune as prune_store
    from toygan.publishing.verify import verify as verify_store
    from toygan.storage.open_store import open_store

    store = open_store(uri)
    if prune:
        for key in prune_store(store):
            click.echo(f"removed {key}")
    with Progress(total=None, unit="pictures", description="verifying") as progress:
        verdict = verify_store(store, advance=progress.advance)
    for line in (*verdict.problems, *verdict.planning):
        click.echo(line)
    if verdict.problems:
        click.echo(f"{len(verdict.problems)} problems in {uri}", err=True)
        sys.exit(FAILED)
    unfinished = f", {len(verdict.open_runs)} unfinished" if verdict.open_runs else ""
    click.echo(f"{uri} is whole: {verdict.pictures:,} pictures of {verdict.finished_runs} runs{unfinished}")


@cli.command()
@click.option("--output", required=True, metavar="URI", help="The store of the run.")
@click.option("--run-id", metavar="ID", help="Write the contact sheet of this finished run again.")
@click.option("--store", "is_store", is_flag=True, help="Write the page of all runs of the store.")
def report(output: str, run_id: str | None, is_store: bool) -> None:
    """Write the contact sheet of a finished run again, or the page of all runs."""
    from toygan.planning.summaries import read_summaries
    from toygan.publishing.finish import rewrite_report
    from toygan.publishing.nights import rebuild_nights
    from toygan.publishing.store_report import write_store_report
    from toygan.storage.open_store import open_store
    from toygan.uploads.history import read_history
    from toygan.uploads.index import photos_so_far

    if is_store == (run_id is not None):
        raise click.UsageError("give either --run-id ID or --store")
    store = open_store(output)
    if run_id is None:
        summaries = read_summaries(store)
        nights = rebuild_nights(store, summaries)
        decisions = summaries.decisions_table()
        click.echo(write_store_report(store, nights, decisions, read_history(store)))
    else:
        click.echo(rewrite_report(store, run_id, photos_so_far=photos_so_far))


@cli.command()
@click.argument("image_id")
@click.option("--output", required=True, metavar="URI", help="The store that holds the picture.")
@device_option
def reproduce(image_id: str, output: str, device: str) -> None:
    """Generate a picture again from its row and compare the bytes."""
    from toygan.device import pick_device
    from toygan.publishing.reproduce import reproduce as reproduce_image
    from toygan.storage.open_store import open_store

    click.echo(reproduce_image(open_store(output), image_id, pick_device(device)))


cli.add_command(calibrate)
cli.add_command(train)
cli.add_command(models)
cli.add_command(catalog_commands)
cli.add_command(decide)
cli.add_command(export)
cli.add_command(inspect)
cli.add_command(review)
cli.add_command(uploads)


if __name__ == "__main__":
    run()
