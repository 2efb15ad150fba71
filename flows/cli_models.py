"""The commands `toygan models ...`."""

from pathlib import Path

import click

from flows.options import store_option


@click.group()
def models() -> None:
    """List, add and promote models."""


@models.command("list")
@store_option
def models_list(store: str | None) -> None:
    """Every version, the bundled ones included."""
    from toygan.registry import bundled_models, list_models, resolve
    from toygan.storage.store import open_store

    for name in bundled_models():
        click.echo(f"{name}@{resolve(name, None).version}  bundled")
    for model in list_models(open_store(store)) if store else []:
        state = "calibrated" if model.calibrated else "not calibrated"
        aliases = f"  {', '.join(model.aliases)}" if model.aliases else ""
        click.echo(f"{model.name}@{model.version}  {state}  {model.total_bytes / 1e6:.1f} MB{aliases}")


@models.command("show")
@click.argument("model", required=False)
@store_option
def models_show(model: str | None, store: str | None) -> None:
    """Config and calibration of MODEL (default: the champion, else the bundled one)."""
    from toygan.registry import CALIBRATION, CONFIG, resolve
    from toygan.storage.store import open_store

    files = resolve(model, open_store(store) if store else None)
    click.echo(f"{files.name}@{files.version}")
    for name in (CONFIG, CALIBRATION):
        click.echo(files.files[name].decode() if name in files.files else f"no {name}")


@models.command("add")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--name", required=True)
@click.option("--store", required=True, metavar="URI")
def models_add(folder: Path, name: str, store: str) -> None:
    """Copy the model in FOLDER into a store."""
    from toygan.registry import add_model
    from toygan.storage.store import open_store

    click.echo(f"{name}@{add_model(open_store(store), folder, name)}")


@models.command("promote")
@click.argument("model")
@click.option(
    "--alias", help="Default: champion, or champion-sketch or champion-layout for what draws from these."
)
@click.option("--store", required=True, metavar="URI")
def models_promote(model: str, alias: str | None, store: str) -> None:
    """Make MODEL (NAME@VERSION) the champion of a store among the models that draw from the same."""
    from toygan.registry import promote
    from toygan.storage.store import open_store

    name, _, version = model.partition("@")
    if not version:
        raise click.UsageError(
            f"{model} names no version; give NAME@VERSION, as `toygan models list` shows it"
        )
    click.echo(f"{promote(open_store(store), name, version, alias)} is {model}")


@models.command("rollback")
@click.option("--alias", default="champion", show_default=True)
@click.option("--store", required=True, metavar="URI")
def models_rollback(alias: str, store: str) -> None:
    """Go back to the model before the present one."""
    from toygan.registry import rollback
    from toygan.storage.store import open_store

    click.echo(f"{alias} is {rollback(open_store(store), alias)}")
