"""The tables of a bundled model's card, of what `toygan evaluate --json` found."""

from collections.abc import Iterator, Mapping
from typing import Any

Found = Mapping[str, Any]

_OVERALL = (
    ("colour error, median CIEDE2000", "colour_delta_e", 1),
    ("category right by a classifier of real photos", "category_accuracy", 2),
    ("layout agreement, mean IoU", "layout_agreement", 2),
    ("distance to the nearest training photo", "nearest_training", 1),
)


def figures(evaluation: Found) -> str:
    """Markdown of the figures of a calibrated model: overall, by category, and what approval is worth."""
    return "\n".join([*_overall(evaluation), "", *_by_category(evaluation), "", *_approval(evaluation), ""])


def _overall(evaluation: Found) -> Iterator[str]:
    made, real = evaluation["overall"]["pictures"], evaluation["overall"]["photos"]
    best = evaluation["training_photos"]
    yield _row("", "generated", "training photos, the best a model could reach", "photos of val")
    yield _rule(4)
    yield _row("KID x 1000", _kid(made), _kid(best), "")
    yield _row("FID", f"{made['fid']:.1f}", f"{best['fid']:.1f}", "")
    for names in (("precision", "recall"), ("density", "coverage")):
        shown = [", ".join(f"{scores[name]:.2f}" for name in names) for scores in (made, best)]
        yield _row(", ".join(names), *shown, "")
    for label, name, digits in _OVERALL:
        if made[name] is not None:
            yield _row(label, f"{made[name]:.{digits}f}", "", f"{real[name]:.{digits}f}")


def _by_category(evaluation: Found) -> Iterator[str]:
    beside = ("colour error, of val photos", "category right, of val photos")
    yield _row("category", "KID x 1000", "recall", *beside, "calibration error, 95 %")
    yield _rule(6)
    for name, group in evaluation["categories"].items():
        made, real = group["pictures"], group["photos"]
        error = evaluation["approval"]["category_calibration_error"][name]
        yield _row(
            name,
            _kid(made),
            _number(made["recall"], 2),
            ", ".join(_number(scores["colour_delta_e"], 1) for scores in (made, real)),
            ", ".join(_number(scores["category_accuracy"], 2) for scores in (made, real)),
            _interval(error, 2),
        )


def _approval(evaluation: Found) -> Iterator[str]:
    found = evaluation["approval"]
    error = _interval(found["calibration_error"], 3)
    yield f"Calibration error over all categories: {error}. KID x 1000 and recall:"
    yield ""
    yield _row("all", "best half by score alone", "by checks and score", "a random half")
    yield _rule(4, first="---:")
    scores_of_sets = (
        evaluation["overall"]["pictures"],
        found["by_score"],
        found["approved"],
        found["random"],
    )
    yield _row(*(f"{_kid(scores)}; {scores['recall']:.2f}" for scores in scores_of_sets))


def _row(*cells: str) -> str:
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)


def _rule(columns: int, first: str = "---") -> str:
    return f"|{'|'.join([first, *['---:'] * (columns - 1)])}|"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _kid(scores: Found) -> str:
    if scores["kid"] is None:
        return "-"
    return f"{1000 * scores['kid']['value']:.1f} ± {1000 * scores['kid']['error']:.1f}"


def _interval(found: Mapping[str, float] | None, digits: int) -> str:
    if found is None:
        return "-"
    return f"{found['value']:.{digits}f} ({found['low']:.{digits}f} to {found['high']:.{digits}f})"
