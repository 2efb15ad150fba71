"""Describes a calibration in lines of text."""

from collections.abc import Iterator

from toygan.approval.people import REJECTION_WEIGHT
from toygan.artifact.calibration import Agreement, Calibration


def calibration_lines(calibration: Calibration) -> Iterator[str]:
    """Yields a line for each category, for people's decisions and for each warning."""
    errors = calibration.colour_profile.errors if calibration.colour_profile else {}
    for name, each in calibration.categories.items():
        ece = "-" if each.ece is None else f"{each.ece:.3f}"
        colours = ""
        if name in errors:
            colours = "; median colour error {:.1f} -> {:.1f} by the colour profile".format(*errors[name])
        earlier = {} if calibration.agreement is None else calibration.agreement.thresholds
        moved = f" (without decisions {earlier[name]:.3f})" if name in earlier else ""
        yield (
            f"  {name}: threshold {each.threshold:.3f}{moved}, calibration error {ece}, {each.n_real} real "
            f"and {each.n_generated} generated pictures{', pooled' if each.pooled else ''}{colours}"
        )
    if calibration.agreement is not None:
        yield agreement_line(calibration.agreement)
    yield from (f"warning: {warning}" for warning in calibration.warnings)


def agreement_line(agreement: Agreement) -> str:
    """Returns a sentence that says how often the calibration decides as people did."""
    decided = (
        f"{agreement.decisions:,} decisions of people (a rejection weighs as much as {REJECTION_WEIGHT:.0f} "
        "approvals)"
    )
    if agreement.after == agreement.before:
        return (
            f"{decided}: it agrees with {agreement.before:.1%} of them and "
            "stays as it is, because no other thresholds or probe agree with significantly more"
        )
    return (
        f"{decided}: it agrees with {agreement.after:.1%} of those that it "
        f"was not fitted to; before it was fitted to decisions, it agreed with {agreement.before:.1%}"
        + ("; the probe was fitted to them, too" if agreement.probe else "")
    )
