"""Options that several commands of `toygan` share."""

import click

store_option = click.option("--store", metavar="URI", help="A store with models, besides the bundled ones.")
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
batch_size_option = click.option(
    "--batch-size",
    type=int,
    help="Pictures in a batch, 1 to 4096; default: chosen for model and device. Another size may change the "
    "last bit.",
)
map_option = click.option(
    "--map",
    "columns",
    multiple=True,
    metavar="COLUMN=THEIRS",
    help="Read the catalog's COLUMN from the file's column THEIRS; may be repeated.",
)
photos_option = click.option(
    "--photos",
    required=True,
    metavar="URI",
    help="Photo shards (a folder or s3:// prefix of *.parquet), a store with indexed uploads, or a folder "
    "with a subfolder or .tar of pictures for each category.",
)
