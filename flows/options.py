"""Options that several commands of `toygan` share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from toygan.conditions.condition_types import ModelRole

DEVICE_HELP = "auto, cpu, cuda or cuda:N."
BATCH_SIZE_HELP = "Pictures in a batch, 1 to 4096; the default fits model and device. It affects rounding."
MODE_HELP = (
    "missing: products without a picture of their present row; refresh: these, and products with a picture "
    "by another model; retry: the products of missing, and products whose attempts are used up, which "
    "missing and refresh leave out; all: every product."
)

store_option = click.option("--store", metavar="URI", help="A store whose models can be named, too.")
device_option = click.option("--device", default="auto", show_default=True, help=DEVICE_HELP)
batch_size_option = click.option("--batch-size", type=int, help=BATCH_SIZE_HELP)
map_option = click.option(
    "--map",
    "columns",
    multiple=True,
    metavar="COLUMN=THEIRS",
    help="Read toygan's COLUMN from the file's column THEIRS; may be repeated. Not for Parquet.",
)
photos_option = click.option(
    "--photos",
    required=True,
    metavar="URI",
    help="Photo shards (a folder or s3:// prefix of *.parquet), a store with indexed uploads, or a folder "
    "with a subfolder or .tar of pictures for each category.",
)


def model_option(role: "ModelRole", option: str, text: str) -> Callable[..., Any]:
    """Returns an option. Its value becomes the entry `role` of the command's argument `models`."""

    def keep(context: click.Context, parameter: click.Parameter, name: str | None) -> None:
        models = context.params.setdefault("models", {})
        if name is not None:
            models[role] = name

    return click.option(option, metavar="NAME", help=text, callback=keep, expose_value=False)


def special_model_option(role: "ModelRole") -> Callable[..., Any]:
    """Returns the option that names the model for products with a file of the condition `role`."""
    text = (
        f"The model for products with a {role}_uri; default: champion-{role}, else the bundled one if the "
        "main model is bundled, too. Without one, these products use another model."
    )
    return model_option(role, f"--{role}-model", text)
