"""The summary of a finished run for a person."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from catalog_schemas.images import APPROVED, DECISIONS
from catalog_schemas.runs import Manifest
from toygan.errors import RunFailed
from toygan.names import counted
from toygan.planning.finished import Parts
from toygan.planning.summaries import Summaries
from toygan.publishing.commit import NOT_FINITE
from toygan.storage.keys import report_key

MOST_NAMED = 20  # the largest number of products listed in a line


def warnings_of(manifest: Manifest) -> list[str]:
    """Returns a line for each result that is not an error, but that the shop should know."""
    counts = manifest.counts
    lines = []
    if counts["planned"] and not counts[APPROVED]:
        lines.append(f"{counts['planned']:,} pictures were planned and none was approved")
    if counts.get("incomplete"):
        named = ", ".join(f"{sku} {have} of {want}" for sku, (have, want) in manifest.incomplete.items())
        more = counts["incomplete"] - len(manifest.incomplete)
        lines.append(
            f"{counts['incomplete']:,} products have fewer pictures than they want: {named}"
            + (f" and {more:,} more" if more else "")
        )
    if counts["exhausted"]:
        lines.append(
            f"{counts['exhausted']:,} pictures were left alone, because their attempts are used up; look at "
            "review/, change their rows, or try again with --mode retry"
        )
    if counts["deferred"]:
        lines.append(
            f"{counts['deferred']:,} pictures wait for the next run, because `toygan verify --prune` was "
            "removing old files of theirs; if it was interrupted, run it again"
        )
    return lines


def _found(counts: Mapping[str, int]) -> str:
    return (
        f"{counted(counts['products'], 'product')}, {counted(counts['rejected_rows'], 'row')} set aside, "
        f"{counted(counts['unchanged'], 'picture')} live already"
    )


def _cell(text: str) -> str:
    """Escapes a text of the catalog for a cell of a table in Markdown."""
    return re.sub(r"([\\|`*_<>\[\]])", r"\\\1", text)


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """The result of a run, as text for a terminal and as Markdown."""

    manifest: Manifest
    store: str
    elapsed_s: float
    parts: Parts = field(repr=False)
    summaries: Summaries = field(repr=False)  # the summaries of the store after the run
    retired: Mapping[str, int] = field(default_factory=dict)  # the number of withdrawn pictures by reason

    @property
    def report_uri(self) -> str:
        return f"{self.store}/{report_key(self.manifest.run_id)}"

    def check_finite(self) -> None:
        """Raises RunFailed if pictures were generated and none of them was finite."""
        counts = self.manifest.counts
        candidates = sum(counts[decision] for decision in DECISIONS)
        if candidates and counts[NOT_FINITE] == candidates:
            raise RunFailed(
                f"run {self.manifest.run_id}: {candidates:,} pictures were generated and none is finite; the "
                f"model or the device is broken, see {self.report_uri}"
            )

    def markdown(self) -> str:
        """Returns the counts as a table, and the place of the contact sheet."""
        counts = self.manifest.counts
        models = ", ".join(f"`{each}`" for each in self.manifest.all_models)
        lines = [
            f"Run `{self.manifest.run_id}` with {models}: {_found(counts)}, {counts['planned']:,} planned.",
            "",
            "| category | planned | approved | for review | rejected candidates |",
            "|---|---:|---:|---:|---:|",
        ]
        named = [(_cell(name), row) for name, row in self.manifest.categories.items()]
        for name, row in [*named, ("**all**", counts)]:
            numbers = (row["planned"], *(row[decision] for decision in DECISIONS))
            lines.append(f"| {name} | " + " | ".join(f"{number:,}" for number in numbers) + " |")
        for reason, number in self.retired.items():
            lines += ["", f"{counted(number, 'picture')} withdrawn: {reason}."]
        lines += ["", *(f"- {warning}" for warning in warnings_of(self.manifest))]
        lines += ["", f"Contact sheet: `{self.report_uri}`"]
        return "\n".join(lines)

    def table(self) -> list[dict[str, str | int]]:
        """Returns a row for each category and one for all: column name to value."""
        return [
            {
                "category": name,
                "planned": counts["planned"],
                "approved": counts[APPROVED],
                "for review": counts["review"],
                "rejected candidates": counts["rejected"],
                "exhausted": counts.get("exhausted", 0),
            }
            for name, counts in [*self.manifest.categories.items(), ("all", self.manifest.counts)]
        ]

    def text(self) -> str:
        """Returns three lines for a terminal, and one for each warning."""
        counts = self.manifest.counts
        share = f" ({counts[APPROVED] / counts['planned']:.0%})" if counts["planned"] else ""
        return (
            f"run {self.manifest.run_id}: {_found(counts)}\n"
            f"planned {counts['planned']:,}, approved {counts[APPROVED]:,}{share}, for review "
            f"{counts['review']:,}, in {self.elapsed_s:.1f} s\n"
            + "".join(
                f"withdrew {counted(number, 'picture')}: {reason}\n"
                for reason, number in self.retired.items()
            )
            + "".join(f"{warning}\n" for warning in warnings_of(self.manifest))
            + f"contact sheet: {self.report_uri}"
        )
