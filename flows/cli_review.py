"""The commands `toygan decide` and `toygan review`: people's decisions about pictures."""

import click


@click.command()
@click.argument("decision", type=click.Choice(["approve", "reject", "redraw"]))
@click.argument("image_ids", metavar="IMAGE_ID...", nargs=-1, required=True)
@click.option("--output", required=True, metavar="URI", help="The store that holds the pictures.")
@click.option("--by", required=True, metavar="NAME", help="Who decides.")
@click.option("--reason", metavar="TEXT", help="The reason, at most 500 characters.")
def decide(decision: str, image_ids: tuple[str, ...], output: str, by: str, reason: str | None) -> None:
    """Approve or reject pictures, or have them generated again.

    approve: the picture is live at once, until its catalog row or the model changes. reject: the picture is
    withdrawn and never comes back; the next run makes another one. redraw: the picture stays; the next run
    makes another one, which replaces the picture if it is approved.
    """
    from toygan.review.record import decide as record_decisions
    from toygan.storage.open_store import open_store

    store = open_store(output)
    for made in record_decisions(store, decision, image_ids, by=by, reason=reason):
        picture = f"{made.image_id} of {made.sku}, image {made.image_index}"
        click.echo(f"{made.decision} {picture}: saved as {made.decision_id}")


@click.command()
@click.option("--output", required=True, metavar="URI", help="The store that holds the pictures.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8077, show_default=True, help="0 takes a free port."
)
@click.option(
    "--address",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on. If other machines can reach it, the page needs a token, "
    "which is in the printed URL.",
)
@click.option(
    "--by",
    default="",
    metavar="NAME",
    help="The name of the person who decides; by default the page asks for it.",
)
def review(output: str, port: int, address: str, by: str) -> None:
    """Serve a page on which people look at pictures and approve, reject or redraw them.

    TOYGAN_REVIEW_TOKEN sets the token for an address beyond this machine; by default it is random.
    """
    import os

    from toygan.memory import limit_arenas

    # Both come before imports that start threads. Arrow's own allocator and many arenas keep memory of each
    # thread that reads the store, so the server would grow with the decisions.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    limit_arenas(2)
    from toygan.review.serve import serve
    from toygan.storage.open_store import open_store

    serve(
        open_store(output),
        address=address,
        port=port,
        by=by,
        token=os.environ.get("TOYGAN_REVIEW_TOKEN") or None,
        ready=lambda url: click.echo(f"review the pictures of {output} at {url} (Ctrl-C stops the server)"),
    )
