"""The command `toygan calibrate`."""

import click

from flows.options import device_option, store_option


@click.command()
@click.option(
    "--model",
    required=True,
    metavar="NAME",
    help="./FOLDER, hf:OWNER/NAME, or NAME[@VERSION|alias] of a store.",
)
@click.option(
    "--photos",
    metavar="URI",
    help="Photo shards (a folder or s3:// prefix of *.parquet), a store with indexed uploads, or a folder "
    "with a subfolder or .tar of pictures for each category.",
)
@click.option(
    "--decisions",
    metavar="URI",
    help="A store with people's decisions. The thresholds are fitted to them, and the probe if that "
    "helps. Without --photos, the model keeps the rest of its calibration.",
)
@click.option(
    "--acceptance",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    help="Set the threshold so that this share of the pictures that pass the checks reaches it.",
)
@click.option(
    "--probe",
    is_flag=True,
    help="Score with a linear layer on ImageNet features instead of the discriminator.",
)
@click.option(
    "--enhancer",
    metavar="MODEL",
    help="An enhancer to store beside the model; from then on it enlarges the model's pictures.",
)
@store_option
@device_option
@click.pass_context
def calibrate(
    context: click.Context,
    model: str,
    photos: str | None,
    decisions: str | None,
    acceptance: float,
    probe: bool,
    enhancer: str | None,
    store: str | None,
    device: str,
) -> None:
    """Calibrate a model's score and set its thresholds for approval, by photos, by decisions or by both."""
    from toygan.artifact.calibration import CalibrationSettings
    from toygan.calibration.calibrate import calibrate_model
    from toygan.device import pick_device
    from toygan.registry.models import resolve
    from toygan.storage.open_store import open_store

    if photos is None:
        _refuse_without_photos(context, decisions)
    models = open_store(store) if store else None
    settings = CalibrationSettings(acceptance=acceptance)
    lines = calibrate_model(
        model,
        photos=photos,
        store_uri=store,
        device=pick_device(device),
        settings=settings,
        with_probe=probe,
        enhancer=None if enhancer is None else resolve(enhancer, models),
        decisions_uri=decisions,
    )
    for line in lines:
        click.echo(line)


def _refuse_without_photos(context: click.Context, decisions: str | None) -> None:
    """Raises UsageError if --decisions is missing, or if an option is given that needs --photos."""
    if decisions is None:
        raise click.UsageError("give --photos URI, --decisions URI or both")
    for name in ("acceptance", "probe", "enhancer"):
        if context.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name} needs --photos")
