"""The commands `toygan models ...`."""

from pathlib import Path

import click

from flows.options import store_option

_LIVE_PICTURES_STAY = (
    "live pictures stay; `toygan generate --mode refresh` draws those of other models anew, and so do the "
    "nights of the service with TOYGAN_MODE=refresh"
)


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
    """Make MODEL the champion of a store among the models that draw from the same.

    MODEL is NAME@VERSION, or NAME where there is one version of it; a bundled model is copied into the store.
    Live pictures stay as they are. The next `toygan generate` draws what has no picture with the new model;
    with --mode refresh it draws the others anew, too, and replaces each picture once its successor is
    approved. For the service TOYGAN_MODE says which of the two a night does.
    """
    from toygan.promotion import promote
    from toygan.registry import CHAMPIONS
    from toygan.storage.store import open_store

    name, _, version = model.partition("@")
    alias, ref = promote(open_store(store), name, version or None, alias)
    click.echo(f"{alias} is {ref}")
    if alias in CHAMPIONS.values():
        click.echo(_LIVE_PICTURES_STAY)


@models.command("rollback")
@click.option("--alias", default="champion", show_default=True)
@click.option("--store", required=True, metavar="URI")
def models_rollback(alias: str, store: str) -> None:
    """Go back to the model before the present one, from the first one to the bundled one.

    Live pictures stay as they are; see `toygan models promote`.
    """
    from toygan.promotion import rollback
    from toygan.registry import CHAMPIONS
    from toygan.storage.store import open_store

    ref = rollback(open_store(store), alias)
    click.echo(f"{alias} is {ref or 'no model: its products are drawn by the champion'}")
    if alias in CHAMPIONS.values():
        click.echo(_LIVE_PICTURES_STAY)
