"""The commands `toygan export` and `toygan inspect`."""

import sys
from pathlib import Path

import click

from flows.exits import BAD_INPUT, FAILED


@click.command()
@click.option(
    "--channel",
    "channels",
    required=True,
    multiple=True,
    metavar="NAME",
    help="amazon, ebay, etsy, google, instagram, shopify, web, wechat, xiaohongshu, or ./FILE.toml; may be "
    "repeated.",
)
@click.option("--output", required=True, metavar="URI", help="The store with the pictures.")
@click.option(
    "--to",
    metavar="URI",
    help="Folder or s3://BUCKET/PREFIX for the export; default: exports/NAME in the store.",
)
@click.option(
    "--base-url",
    metavar="URL",
    help="The address (https://...) at which the export can be read, for the links in feeds.",
)
@click.option(
    "--presigned-days",
    type=click.FloatRange(0, 7, min_open=True),
    metavar="N",
    help="Write signed URLs into feeds, valid for N days; for a private bucket.",
)
@click.option(
    "--collage",
    type=click.IntRange(2, 12),
    metavar="N",
    help="Also show N (2 to 12) products of each category in one picture.",
)
def export(
    channels: tuple[str, ...],
    output: str,
    to: str | None,
    base_url: str | None,
    presigned_days: float | None,
    collage: int | None,
) -> None:
    """Export the live pictures to a marketplace or social network, by its rules, with its feeds.

    Files without a change are not made again. The report names every picture that was left out, and why. A
    channel that fails does not stop the others.
    """
    from toygan.channels.export import ExportRequest, export
    from toygan.channels.rules import load_channel
    from toygan.errors import BadInput, ToyganError

    if len(channels) > 1 and (to or base_url):
        raise BadInput("--to and --base-url are for one channel; give them with one --channel at a time")
    for channel in channels:
        load_channel(channel)
    broken = 0
    errors: list[ToyganError] = []
    for channel in channels:
        request = ExportRequest(
            channel=channel,
            output=output,
            to=to,
            base_url=base_url,
            presigned_days=presigned_days,
            collage=collage,
        )
        try:
            summary = export(request)
        except ToyganError as error:  # an error of one channel does not stop the others
            errors.append(error)
            click.echo(f"toygan: {channel}: {error}", err=True)
            continue
        broken += summary.broken
        click.echo(summary.text())
    if errors:
        sys.exit(BAD_INPUT if all(isinstance(each, BadInput) for each in errors) else FAILED)
    if broken:
        click.echo(f"{broken} pictures are missing or damaged: toygan verify {output}", err=True)
        sys.exit(FAILED)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def inspect(files: tuple[Path, ...]) -> None:
    """Say what picture files state about their origin.

    A bad file does not stop the others, but then the exit code is 2.
    """
    from toygan.channels.inspection import inspect_file
    from toygan.errors import BadInput

    failed = False
    for file in files:
        try:
            click.echo("\n".join(inspect_file(file)))
        except BadInput as error:
            failed = True
            click.echo(f"toygan: {error}", err=True)
    if failed:
        sys.exit(BAD_INPUT)
