"""Makes the page of a store about all its runs: `reports/index.html`, one HTML file with plots in SVG."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Template

from toygan.errors import BadInput
from toygan.planning.decisions import without_undone
from toygan.publishing.page import page_templates
from toygan.storage.keys import STORE_REPORT_KEY
from toygan.storage.store import ObjectStore

MOST_CATEGORIES = 200
_WIDTH, _HEIGHT = 560, 120  # the size of a plot without its margin, in SVG units


@dataclass(frozen=True, kw_only=True)
class Uploads:
    """Numbers about uploaded photos and retrainings."""

    quarantined_at: pa.ChunkedArray  # the time of each photo that cannot be used
    retrainings: Sequence[tuple[datetime, str]]  # (end, result) of each retraining, the oldest first


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One plot. It has a value or None for each run."""

    title: str
    meaning: str
    values: Sequence[float | None]
    is_share: bool = False


def write_store_report(store: ObjectStore, nights: pa.Table, decisions: pa.Table, uploads: Uploads) -> str:
    """Writes the page from the tables NIGHTS and DECISIONS and from the uploads. Returns its URI.

    Raises BadInput for a store without finished runs.
    """
    if not nights.num_rows:
        raise BadInput(f"{store.uri} has no finished run, so there is nothing to report")
    html = render_store_report(store.uri, nights.to_pandas(), decisions, uploads)
    store.put(STORE_REPORT_KEY, html.encode(), content_type="text/html; charset=utf-8")
    return f"{store.uri}/{STORE_REPORT_KEY}"


def render_store_report(store: str, nights: pd.DataFrame, decisions: pa.Table, uploads: Uploads) -> str:
    """Returns the page as HTML. `nights` are rows of NIGHTS, in the order of their commits."""
    runs = nights[nights["category"].isna()].reset_index(drop=True)
    dates = [f"{each:%Y-%m-%d}" for each in runs["started_at"]]
    decided_at = without_undone(decisions)["decided_at"]
    ended_at = pa.chunked_array(
        [pa.array([at for at, _ in uploads.retrainings], pa.timestamp("us", tz="UTC"))]
    )
    plots = [
        Plot(
            title="Coverage",
            meaning="wanted pictures that are live",
            values=_shares(runs["covered"], runs["wanted"]),
            is_share=True,
        ),
        Plot(
            title="Acceptance",
            meaning="candidates that the machine approved",
            values=_shares(runs["approved"], runs["candidates"]),
            is_share=True,
        ),
        Plot(
            title="Waiting for people",
            meaning="candidates that nobody has decided about",
            values=[None if pd.isna(each) else float(each) for each in runs["backlog"]],
        ),
        Plot(
            title="Exhausted",
            meaning="wanted pictures whose attempts are used up",
            values=runs["exhausted"].astype(float).tolist(),
        ),
        Plot(
            title="Quarantine",
            meaning="uploaded photos that cannot be used, seen up to this day",
            values=_up_to(uploads.quarantined_at, dates),
        ),
        Plot(
            title="Decisions",
            meaning="decisions of people up to this day",
            values=_up_to(decided_at, dates),
        ),
        Plot(title="Retrainings", meaning="up to this day", values=_up_to(ended_at, dates)),
    ]
    changes = _changes(runs["model"].tolist())
    names = sorted(nights["category"].dropna().unique())
    return _template().render(
        store=store,
        runs=len(runs),
        first=dates[0],
        last_date=dates[-1],
        last=runs["run_id"].iloc[-1],
        plots=[_drawn(plot, changes) for plot in plots],
        changes=[(dates[at], runs["model"][at]) for at in changes],
        retrainings=[(f"{at:%Y-%m-%d}", text) for at, text in uploads.retrainings],
        categories=[_category(name, nights, runs) for name in names[:MOST_CATEGORIES]],
        categories_left_out=max(0, len(names) - MOST_CATEGORIES),
        width=_WIDTH,
        height=_HEIGHT,
    )


def _shares(part: "pd.Series[int]", whole: "pd.Series[int]") -> list[float | None]:
    return [float(some / all_) if all_ > 0 else None for some, all_ in zip(part, whole, strict=True)]


def _up_to(times: pa.ChunkedArray, dates: Sequence[str]) -> list[float | None]:
    """Returns for each date how many of `times` are on that date or before."""
    days = sorted(pc.strftime(times, format="%Y-%m-%d").to_pylist())
    return [float(bisect_right(days, date)) for date in dates]


def _changes(models: Sequence[str]) -> list[int]:
    """Returns the positions of the runs whose model differs from that of the previous run."""
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


def _category(name: str, nights: pd.DataFrame, runs: pd.DataFrame) -> dict[str, Any]:
    own = nights[nights["category"] == name].set_index("run_id")
    last = own.iloc[-1]
    own = own.reindex(runs["run_id"])
    rows: dict[str, Any] = {"name": name}
    for key, part, whole in (("coverage", "covered", "wanted"), ("acceptance", "approved", "candidates")):
        values = _shares(own[part], own[whole])
        known = [value for value in values if value is not None]
        rows[key] = _words(known[-1], is_share=True) if known else "–"
        rows[f"{key}_lines"] = _lines(values, 1.0, 120, 24)
    return rows | {"review": int(last["review"]), "exhausted": int(last["exhausted"])}


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
