"""The commands `toygan catalog ...`."""

import sys
from typing import TYPE_CHECKING

import click

from flows.exits import BAD_INPUT
from flows.options import map_option

if TYPE_CHECKING:
    from toygan.planning.catalog_check import CatalogCheck


@click.group()
def catalog() -> None:
    """Check product catalogs, and list the products that left them."""


@catalog.command("check")
@click.argument("uri", metavar="FILE")
@map_option
def catalog_check(uri: str, columns: tuple[str, ...]) -> None:
    """Show how toygan reads a catalog, and which rows it rejects and why.

    FILE is Parquet, CSV, TSV, .xlsx, a Shopify product export or a Merchant Center feed (TSV or XML), or a
    folder of snapshots: a path or s3://BUCKET/KEY. The exit code is 2 if no row can be used.
    """
    from toygan.planning.catalog_check import look_at_catalog
    from toygan.planning.catalog_files.convert import parse_mapping

    found: CatalogCheck = look_at_catalog(uri, parse_mapping(columns))
    click.echo(found.text())
    if not found.good:
        sys.exit(BAD_INPUT)


@catalog.command("gone")
@click.argument("uri", metavar="FILE")
@map_option
@click.option("--output", required=True, metavar="URI", help="The store that holds the pictures.")
def catalog_gone(uri: str, columns: tuple[str, ...], output: str) -> None:
    """List the products that left a catalog but still have live pictures. `generate --retire` withdraws these
    pictures.

    Nothing is changed.
    """
    from toygan.planning.catalog_files.convert import parse_mapping
    from toygan.publishing.retire import find_gone
    from toygan.storage.open_store import open_store

    gone = find_gone(open_store(output), uri, parse_mapping(columns))
    for sku in sorted(set(gone.pictures["sku"].to_pylist())):
        click.echo(sku)
    click.echo(gone.text())
