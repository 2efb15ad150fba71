"""The page of a store over its nights: `reports/index.html`, one HTML file with plots as inline SVG."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Template

from catalog_schemas.images import APPROVED, DECISIONS, REVIEW
from catalog_schemas.runs import Manifest, check_report_fields
from toygan.errors import BadInput
from toygan.planning.decisions import stored_decisions, without_undone
from toygan.planning.finished import read_manifests
from toygan.publishing.page import page_templates
from toygan.storage.keys import STORE_REPORT_KEY, manifest_key
from toygan.storage.store import ObjectStore

MOST_RUNS = 365  # the last ones are shown
MOST_CATEGORIES = 200
_THREADS = 16
_WIDTH, _HEIGHT = 560, 120  # of a plot, without its margin


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One plot: a value for each run, None where there is none."""

    title: str
    meaning: str
    values: Sequence[float | None]
    is_share: bool


def write_store_report(store: ObjectStore, quarantined_at: pa.ChunkedArray) -> str:
    """Writes the page; returns its URI. `quarantined_at` has the time of each upload in quarantine.

    Raises BadInput for a store without finished runs."""
    with ThreadPoolExecutor(_THREADS, "store-report") as pool:
        manifests = read_manifests(store, pool)[-MOST_RUNS:]
    if not manifests:
        raise BadInput(f"{store.uri} has no finished run, so there is nothing to report")
    html = render_store_report(store, manifests, quarantined_at)
    store.put(STORE_REPORT_KEY, html.encode(), content_type="text/html; charset=utf-8")
    return f"{store.uri}/{STORE_REPORT_KEY}"


def render_store_report(
    store: ObjectStore, manifests: Sequence[Manifest], quarantined_at: pa.ChunkedArray
) -> str:
    """Returns the page of runs, which are in the order of their commits. Raises TableError for wrong ones."""
    for each in manifests:
        check_report_fields(each, manifest_key(each.run_id))
    counts = [each.counts for each in manifests]
    dates = [each.started_at[:10] for each in manifests]
    plots = [
        Plot(
            title="Coverage",
            meaning="wanted pictures that are live",
            values=[_coverage(each) for each in counts],
            is_share=True,
        ),
        Plot(
            title="Acceptance",
            meaning="candidates that the machine approved",
            values=[_acceptance(each) for each in counts],
            is_share=True,
        ),
        Plot(
            title="For review",
            meaning="candidates that a run left to people",
            values=[each[REVIEW] for each in counts],
            is_share=False,
        ),
        Plot(
            title="Exhausted",
            meaning="wanted pictures whose attempts are used up",
            values=[each["exhausted"] for each in counts],
            is_share=False,
        ),
        Plot(
            title="Quarantine",
            meaning="uploaded photos that cannot be used, seen up to this day",
            values=_up_to(quarantined_at, dates),
            is_share=False,
        ),
        Plot(
            title="Decisions",
            meaning="decisions of people up to this day",
            values=_up_to(without_undone(stored_decisions(store))["decided_at"], dates),
            is_share=False,
        ),
    ]
    changes = _changes(manifests)
    names = sorted({name for each in manifests for name in each.categories})
    return _template().render(
        store=store.uri,
        runs=len(manifests),
        first=dates[0],
        last=manifests[-1],
        plots=[_drawn(plot, changes) for plot in plots],
        changes=[(dates[at], f"{manifests[at].model_name}@{manifests[at].model_version}") for at in changes],
        categories=[_category(name, manifests) for name in names[:MOST_CATEGORIES]],
        categories_left_out=max(0, len(names) - MOST_CATEGORIES),
        width=_WIDTH,
        height=_HEIGHT,
    )


def _coverage(counts: Mapping[str, int]) -> float | None:
    wanted = sum(counts.get(name, 0) for name in ("unchanged", "planned", "exhausted", "deferred"))
    # A picture that is generated anew counts as planned; the old one stays live if that fails.
    return min(1.0, (counts.get("unchanged", 0) + counts[APPROVED]) / wanted) if wanted else None


def _acceptance(counts: Mapping[str, int]) -> float | None:
    candidates = sum(counts[each] for each in DECISIONS)
    return counts[APPROVED] / candidates if candidates else None


def _up_to(times: pa.ChunkedArray, dates: Sequence[str]) -> list[float | None]:
    """Returns for each date the number of times until its end."""
    days = pc.strftime(times, format="%Y-%m-%d").to_pylist()
    return [float(sum(day <= date for day in days)) for date in dates]


def _changes(manifests: Sequence[Manifest]) -> list[int]:
    """Returns the positions of runs by another model than that of the run before."""
    models = [(each.model_name, each.model_version) for each in manifests]
    return [at for at in range(1, len(models)) if models[at] != models[at - 1]]


def _drawn(plot: Plot, changes: Sequence[int]) -> dict[str, Any]:
    known = [value for value in plot.values if value is not None]
    top = 1.0 if plot.is_share else max([1.0, *known])
    return {
        "title": plot.title,
        "meaning": plot.meaning,
        "lines": _lines(plot.values, top, _WIDTH, _HEIGHT),
        "changes": [_x(at, len(plot.values), _WIDTH) for at in changes],
        "top": _words(top, is_share=plot.is_share),
        "now": _words(known[-1], is_share=plot.is_share) if known else "–",
    }


def _category(name: str, manifests: Sequence[Manifest]) -> dict[str, Any]:
    counts = [each.categories.get(name) for each in manifests]
    rows: dict[str, Any] = {"name": name}
    for key, share in (("coverage", _coverage), ("acceptance", _acceptance)):
        values = [None if each is None else share(each) for each in counts]
        known = [value for value in values if value is not None]
        rows[key] = _words(known[-1], is_share=True) if known else "–"
        rows[f"{key}_lines"] = _lines(values, 1.0, 120, 24)
    last = next(each for each in reversed(counts) if each is not None)
    return rows | {"review": last[REVIEW], "exhausted": last.get("exhausted", 0)}


def _lines(values: Sequence[float | None], top: float, width: int, height: int) -> list[str]:
    """Returns the points of a line for each stretch of values without a gap."""
    lines: list[list[str]] = [[]]
    for at, value in enumerate(values):
        if value is None:
            lines.append([])
        else:
            lines[-1].append(f"{_x(at, len(values), width):.1f},{height * (1 - value / top):.1f}")
    # A single point becomes a short line, so that it can be seen.
    return [" ".join(each if len(each) > 1 else [each[0], each[0]]) for each in lines if each]


def _x(at: int, runs: int, width: int) -> float:
    return width * at / (runs - 1) if runs > 1 else width / 2


def _words(value: float, *, is_share: bool) -> str:
    return f"{100 * value:.0f} %" if is_share else f"{value:,.0f}"


@lru_cache(maxsize=1)
def _template() -> Template:
    return page_templates("toygan.publishing").get_template("store_report.html")
