"""The flow `export-channel`: brings the exports of a store up to date, see toygan/channels/README.md."""

from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed

from catalog_schemas.validation import TableError
from flows.lifeline import end_with_the_service
from flows.logs import use_the_log_format
from flows.parameters import ExportParameters
from toygan.channels.export import ExportRequest, ExportSummary, export
from toygan.channels.rules import load_channel
from toygan.errors import BadInput, RunFailed, ToyganError


def _name() -> str:
    parameters = flow_run.parameters["parameters"]
    return f"export to {', '.join(parameters.channels) or 'no channel'}"


@flow(name="export-channel", flow_run_name=_name, persist_result=False)
def export_channel(parameters: ExportParameters) -> list[ExportSummary] | State[Any]:
    """Exports the live pictures to each channel.

    Neither a channel that fails nor a picture that the store has lost or damaged stops the others. The flow
    raises an error about them at its end: RunFailed, or BadInput if channels failed for their input alone.
    Before the first export, raises BadInput for an unknown channel.
    """
    end_with_the_service()
    use_the_log_format()
    log = get_run_logger()
    if not parameters.channels:
        return Completed(message="no channel is named; set TOYGAN_CHANNELS, for example to google,web")
    for channel in parameters.channels:
        load_channel(channel)
    summaries: list[ExportSummary] = []
    errors: dict[str, Exception] = {}
    for channel in parameters.channels:
        try:
            summaries.append(export(_request(parameters, channel)))
        except (ToyganError, TableError) as error:
            errors[channel] = error
            log.error("%s: %s", channel, error)
            continue
        log.info("%s", summaries[-1].text())
    text = "\n\n".join(summary.text() for summary in summaries)
    create_markdown_artifact(key="export-channel", markdown=text or "Nothing.", description=parameters.output)
    problems = []
    if errors:
        reasons = "; ".join(f"{channel}: {error}" for channel, error in errors.items())
        problems.append(f"{len(errors)} of {len(parameters.channels)} channels failed. {reasons}")
    # Every channel shows the same pictures, so a sum would count a lost one several times.
    broken = max((summary.broken for summary in summaries), default=0)
    if broken:
        problems.append(
            f"Of the live pictures, {broken:,} are missing or damaged: toygan verify {parameters.output}"
        )
    if problems:
        is_input = not broken and all(isinstance(each, BadInput) for each in errors.values())
        raise (BadInput if is_input else RunFailed)("\n".join(problems))
    return summaries


def _request(parameters: ExportParameters, channel: str) -> ExportRequest:
    base = parameters.base_url
    return ExportRequest(
        channel=channel,
        output=parameters.output,
        base_url=None if base is None else f"{base.rstrip('/')}/{load_channel(channel).name}",
        collage=parameters.collage,
    )
