"""The commands `toygan uploads ...`."""

import click


@click.group()
def uploads() -> None:
    """Look at the photos that people uploaded into a store."""


@uploads.command("list")
@click.option("--store", "uri", required=True, metavar="URI", help="The store with the photos.")
def list_uploads(uri: str) -> None:
    """List the photos in quarantine, each with the reason, and count those that can be used."""
    from toygan.storage.open_store import open_store
    from toygan.uploads.index import read_tables

    tables = read_tables(open_store(uri))
    rows = tables.quarantine.select(["photo_uri", "reason", "seen_at"]).to_pylist()
    for row in rows:
        click.echo(f"{row['photo_uri']}: {row['reason']} (seen {row['seen_at']:%Y-%m-%d %H:%M} UTC)")
    click.echo(f"{tables.index.num_rows:,} photos can be used, {len(rows):,} are in quarantine")
