"""What a person wants to know at the end of a run."""

from dataclasses import dataclass

from catalog_schemas.images import APPROVED, DECISIONS
from catalog_schemas.runs import Manifest
from toygan.storage.keys import report_key

MOST_NAMED = 20  # products in a line


def warnings_of(manifest: Manifest) -> list[str]:
    """What went otherwise than a shop would wish, though nothing broke: a line each."""
    counts = manifest.counts
    said = []
    if counts["planned"] and not counts[APPROVED]:
        said.append(f"{counts['planned']:,} pictures were planned and none was approved")
    if counts.get("incomplete"):
        named = ", ".join(f"{sku} {have} of {want}" for sku, (have, want) in manifest.incomplete.items())
        more = counts["incomplete"] - len(manifest.incomplete)
        said.append(
            f"{counts['incomplete']:,} products have fewer pictures than they want: {named}"
            + (f" and {more:,} more" if more else "")
        )
    if counts["exhausted"]:
        said.append(
            f"{counts['exhausted']:,} pictures were left alone: all attempts at them were made; look at "
            "review/, change their rows, or try again with --mode retry"
        )
    if counts["deferred"]:
        said.append(
            f"{counts['deferred']:,} pictures wait for the next run: `toygan verify --prune` was removing "
            "old files of theirs; should it have died, run it again"
        )
    return said


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What a person wants to know at the end."""

    manifest: Manifest
    store: str
    elapsed_s: float

    @property
    def report_uri(self) -> str:
        return f"{self.store}/{report_key(self.manifest.run_id)}"

    def markdown(self) -> str:
        """The counts as a table, and where the contact sheet lies."""
        counts = self.manifest.counts
        models = ", ".join(f"`{each}`" for each in self.manifest.all_models)
        lines = [
            f"Run `{self.manifest.run_id}` with {models}: "
            f"{counts['products']:,} products, {counts['rejected_rows']:,} rows set aside, "
            f"{counts['unchanged']:,} pictures live already, {counts['planned']:,} planned.",
            "",
            "| category | planned | approved | for review | rejected candidates |",
            "|---|---:|---:|---:|---:|",
        ]
        for name, row in [*self.manifest.categories.items(), ("**all**", counts)]:
            numbers = (row["planned"], *(row[decision] for decision in DECISIONS))
            lines.append(f"| {name} | " + " | ".join(f"{number:,}" for number in numbers) + " |")
        lines += ["", *(f"- {warning}" for warning in warnings_of(self.manifest))]
        lines += ["", f"Contact sheet: `{self.report_uri}`"]
        return "\n".join(lines)

    def text(self) -> str:
        """Three lines for a terminal, and one for each warning."""
        counts = self.manifest.counts
        share = f" ({counts[APPROVED] / counts['planned']:.0%})" if counts["planned"] else ""
        return (
            f"run {self.manifest.run_id}: {counts['products']:,} products, {counts['rejected_rows']:,} rows "
            f"set aside, {counts['unchanged']:,} pictures live already\n"
            f"planned {counts['planned']:,}, approved {counts[APPROVED]:,}{share}, for review "
            f"{counts['review']:,}, in {self.elapsed_s:.1f} s\n"
            + "".join(f"{warning}\n" for warning in warnings_of(self.manifest))
            + f"contact sheet: {self.report_uri}"
        )
