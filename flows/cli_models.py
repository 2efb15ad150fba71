"""The commands `toygan models ...`."""

from pathlib import Path
from typing import Literal

import click

from flows.options import store_option

_LIVE_PICTURES_STAY = (
    "live pictures stay; `toygan generate --mode refresh` replaces the pictures of other models, and so does "
    "the service at night with TOYGAN_MODE=refresh"
)


@click.group()
def models() -> None:
    """List, add, promote, export and push models."""


@models.command("list")
@store_option
def models_list(store: str | None) -> None:
    """List every version, with the bundled models."""
    from toygan.registry.models import bundled_models, list_models, resolve
    from toygan.storage.open_store import open_store

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
    """Print config and calibration of MODEL (default: the champion, else the bundled model)."""
    from toygan.artifact.files import CALIBRATION, CONFIG
    from toygan.registry.models import resolve
    from toygan.storage.open_store import open_store

    files = resolve(model, open_store(store) if store else None)
    click.echo(f"{files.name}@{files.version}")
    for name in (CONFIG, CALIBRATION):
        click.echo(files.files[name].decode() if name in files.files else f"no {name}")


@models.command("add")
@click.argument("model", metavar="FOLDER|hf:OWNER/NAME")
@click.option("--name", required=True)
@click.option("--store", required=True, metavar="URI")
def models_add(model: str, name: str, store: str) -> None:
    """Copy a model into a store, from a folder or from the Hugging Face Hub."""
    from toygan.registry.hub import hub_reference
    from toygan.registry.models import add_files, add_model, read_extras, resolve
    from toygan.storage.open_store import open_store

    opened = open_store(store)
    if hub_reference(model):
        files = resolve(model, None)
        version = add_files(opened, {**read_extras(model, files, None), **files.files}, name)
    else:
        version = add_model(opened, Path(model), name)
    click.echo(f"{name}@{version}")


@models.command("push")
@click.argument("model")
@click.argument("to")
@click.option("--private", is_flag=True, help="If the repository is new, make it private.")
@click.option(
    "--license",
    "licence",
    metavar="NAME",
    help="The licence for the card, in the Hub's spelling: apache-2.0, ...",
)
@store_option
def models_push(model: str, to: str, private: bool, licence: str | None, store: str | None) -> None:
    """Put MODEL, with its card, on the Hugging Face Hub (hf:OWNER/NAME) or into a folder for it (./FOLDER).

    Before that, log in with `hf auth login`, or set HF_TOKEN. The model's version becomes a tag.
    """
    from toygan.errors import BadInput
    from toygan.registry.hub import hub_reference, push, write_repository
    from toygan.registry.models import folder_of, read_extras, resolve
    from toygan.storage.open_store import open_store

    opened = open_store(store) if store else None
    on_hub, folder = hub_reference(to), folder_of(to)
    if on_hub is None and folder is None:
        raise BadInput(f"{to}: give hf:OWNER/NAME, or a folder as ./FOLDER")
    files = resolve(model, opened)
    extras = read_extras(model, files, opened)
    if on_hub:
        push(files, extras, on_hub, private=private, licence=licence)
        to = f"{to}@{files.version}"
    elif folder:
        write_repository(files, extras, folder, licence=licence)
    click.echo(f"{to}  {sum(map(len, files.files.values())) / 1e6:.1f} MB")


@models.command("export")
@click.argument("model")
@click.option("--format", "format_", type=click.Choice(["onnx", "keras"]), required=True)
@click.option(
    "--to", "folder", required=True, type=click.Path(path_type=Path), help="A folder that is new or empty."
)
@store_option
def models_export(model: str, format_: Literal["onnx", "keras"], folder: Path, store: str | None) -> None:
    """Write the networks of MODEL for systems without torch and toygan.

    FOLDER gets a file for each network. interchange.json says how the networks' inputs are made. example.py
    generates pictures from the inputs in example_inputs.npz.
    """
    import torch

    from toygan.artifact.load import load_model
    from toygan.interchange.export import export_model
    from toygan.registry.models import resolve
    from toygan.storage.open_store import open_store

    files = resolve(model, open_store(store) if store else None)
    click.echo("each network takes about 10 s", err=True)
    for file in export_model(load_model(files, torch.device("cpu")), format_, folder):
        total_bytes = sum(each.stat().st_size for each in (file, *file.rglob("*")) if each.is_file())
        click.echo(f"{file}  {total_bytes / 1e6:.1f} MB")


@models.command("promote")
@click.argument("model")
@click.option(
    "--alias",
    help="Default: champion, or champion-sketch, champion-layout or champion-photo for a model that takes "
    "such images.",
)
@click.option("--store", required=True, metavar="URI")
def models_promote(model: str, alias: str | None, store: str) -> None:
    """Make MODEL a champion of a store: for texts, sketches, layouts or photos, depending on what the model
    takes.

    MODEL is NAME@VERSION, or NAME if the model has only one version. A bundled model is copied into the
    store. Live pictures stay as they are. The next `toygan generate` uses the new champion for products
    without a picture. With --mode refresh it also replaces the pictures of other models; each old picture
    stays until the new one is approved. TOYGAN_MODE sets the mode of the service.
    """
    from toygan.registry.models import CHAMPIONS
    from toygan.registry.promotion import promote
    from toygan.storage.open_store import open_store

    name, _, version = model.partition("@")
    alias, ref = promote(open_store(store), name, version or None, alias)
    click.echo(f"{alias} is {ref}")
    if alias in CHAMPIONS.values():
        click.echo(_LIVE_PICTURES_STAY)


@models.command("rollback")
@click.option("--alias", default="champion", show_default=True)
@click.option("--store", required=True, metavar="URI")
def models_rollback(alias: str, store: str) -> None:
    """Go back to the previous champion.

    If there is no previous champion, go back to the bundled model. Live pictures stay as they
    are; see `toygan models promote`.
    """
    from toygan.registry.models import CHAMPIONS
    from toygan.registry.promotion import rollback
    from toygan.storage.open_store import open_store

    ref = rollback(open_store(store), alias)
    click.echo(f"{alias} is {ref or 'no model: the champion generates these products'}")
    if alias in CHAMPIONS.values():
        click.echo(_LIVE_PICTURES_STAY)
