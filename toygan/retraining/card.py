"""The model card of a challenger, as Markdown: data, training, figures, and the decision with its reasons."""

import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torchvision.transforms import v2

from toygan.evaluation.metrics import Estimate
from toygan.evaluation.result import Evaluation, Scores
from toygan.images import decode, encode
from toygan.retraining.decide import Decision
from toygan.retraining.plan import Plan
from toygan.retraining.snapshot import ROLES

PREVIEW = "preview.png"
_INLINE_WIDTH = 512  # pixels
_CURVE_POINTS = 10
_BARS = "▁▂▃▄▅▆▇█"
_CURVES = (("generator", "loss of the generator"), ("discriminator", "loss of the discriminator"))


def model_card(
    plan: Plan,
    *,
    challenger: Evaluation,
    champion: Evaluation,
    decision: Decision,
    training_log: Path,
) -> str:
    """Returns the card. `training_log` is the training's log.jsonl. The card links to the grid `PREVIEW`."""
    paragraphs = (
        [f"# {challenger.model}@{challenger.version}"],
        _decision(challenger, champion, decision),
        [
            "## Pictures",
            "",
            "For each category, above: photos; below: the challenger's pictures with the photos' conditions.",
        ],
        [f"![Photos and generated pictures]({PREVIEW})"],
        _data(plan),
        _training(plan, champion, _read_log(training_log)),
        _figures(challenger, champion),
        _by_category(challenger, champion),
    )
    return "\n\n".join("\n".join(lines) for lines in paragraphs) + "\n"


def with_preview(card: str, preview: bytes) -> str:
    """Returns the card with the picture `preview` (PNG) embedded, at most `_INLINE_WIDTH` pixels wide."""
    pixels = torch.from_numpy(decode(preview)).permute(2, 0, 1)
    height, width = pixels.shape[1:]
    if width > _INLINE_WIDTH:
        size = [round(height * _INLINE_WIDTH / width), _INLINE_WIDTH]
        pixels = v2.functional.resize(pixels, size, antialias=True)
    data = encode(pixels.permute(1, 2, 0).numpy(), "webp")
    return card.replace(f"({PREVIEW})", f"(data:image/webp;base64,{b64encode(data).decode()})")


def _decision(challenger: Evaluation, champion: Evaluation, decision: Decision) -> list[str]:
    if decision.promoted:
        text = f"**Promoted**: it replaces {champion.model}@{champion.version}, because every rule holds."
    else:
        failed = sum(not rule.holds for rule in decision.rules)
        text = (
            f"**Not promoted**: {champion.model}@{champion.version} stays the champion, because {failed} of "
            f"{len(decision.rules)} rules {'does' if failed == 1 else 'do'} not hold."
        )
    rules = [f"- {'holds' if rule.holds else '**does not hold**'}: {rule.reason}" for rule in decision.rules]
    return [
        f"Family `{challenger.family}`, {challenger.resolution} x {challenger.resolution} pixels. {text}",
        "",
        *rules,
    ]


def _data(plan: Plan) -> list[str]:
    contents = plan.contents
    text = f"{contents.uploads:,} uploaded photos, {contents.titled:,} of them with a title"
    if plan.photos is not None:
        text += f", and {contents.others:,} photos of {plan.photos}"
    if contents.broken:
        text += f"; {contents.broken:,} could not be read"
    if contents.left_out:
        names = ", ".join(f"{name} ({count:,})" for name, count in sorted(contents.left_out.items()))
        text += f"; categories left out because they have too few photos: {names}"
    rows = [[name, *(f"{roles[role]:,}" for role in ROLES)] for name, roles in contents.by_category.items()]
    rows.append(["**all**", *(f"{contents.of_role(role):,}" for role in ROLES)])
    return ["## Data", "", f"{text}.", "", *_table(["category", "train", "calibration", "val"], rows)]


def _training(plan: Plan, champion: Evaluation, lines: Sequence[dict[str, Any]]) -> list[str]:
    start = "the bundled model " if plan.is_bundled else ""
    section = [
        "## Training",
        "",
        f"At most {plan.max_images:,} images, starting from {start}{champion.model}@{champion.version}."
        f"{_rollbacks(lines)}",
    ]
    lines = _thinned([line for line in lines if "rolled_back" not in line])
    if not lines:
        return section
    section += ["", "| | " + " | ".join(f"{line['images_seen']:,}" for line in lines) + " | curve |"]
    section += ["|---|" + "---:|" * len(lines) + "---|"]
    for key, name in _CURVES:
        values = [float(line[key]) for line in lines]
        section += [f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + f" | {_bars(values)} |"]
    return section


def _rollbacks(lines: Sequence[dict[str, Any]]) -> str:
    count = sum("rolled_back" in line for line in lines)
    if not count:
        return ""
    return (
        f" The training went back to its last checkpoint {'once' if count == 1 else f'{count} times'}, "
        "and continued at lower learning rates."
    )


def _figures(challenger: Evaluation, champion: Evaluation) -> list[str]:
    columns = (
        challenger.overall.pictures,
        champion.overall.pictures,
        challenger.training_photos,
        challenger.overall.photos,
    )
    shown = {
        "KID x 1000": [_kid(scores.kid) for scores in columns],
        "FID": [_number(scores.fid, 1) for scores in columns],
        "precision": [_number(scores.precision, 3) for scores in columns],
        "recall": [_number(scores.recall, 3) for scores in columns],
        "density": [_number(scores.density, 3) for scores in columns],
        "coverage": [_number(scores.coverage, 3) for scores in columns],
        "colour error, median CIEDE2000": [_number(scores.colour_delta_e, 2) for scores in columns],
        "category right": [_number(scores.category_accuracy, 3) for scores in columns],
    }
    heading = ["", "challenger", "champion", "photos of train", "photos of val"]
    return [
        "## Figures",
        "",
        f"{challenger.overall.pictures.pictures:,} pictures of each model compared with the "
        f"{challenger.overall.photos.pictures:,} photos of val; features of {challenger.feature_network}, "
        f"{challenger.neighbours} neighbours, seed {challenger.seed}. {challenger.near_copies:.1%} of the "
        "challenger's pictures are nearer to a training photo than 99 % of the val photos are.",
        "",
        *_table(heading, [[name, *cells] for name, cells in shown.items()]),
    ]


def _by_category(challenger: Evaluation, champion: Evaluation) -> list[str]:
    return ["By category:", "", *_table(_CATEGORY_HEADING, list(_category_rows(challenger, champion)))]


_CATEGORY_HEADING = [
    "category",
    "photos of val",
    "KID x 1000, challenger",
    "champion",
    "recall, challenger",
    "champion",
]


def _category_rows(challenger: Evaluation, champion: Evaluation) -> Iterator[list[str]]:
    for name, group in challenger.categories.items():
        new = group.pictures
        old = champion.categories[name].pictures if name in champion.categories else Scores(pictures=0)
        yield [
            name,
            f"{group.photos.pictures:,}",
            _kid(new.kid),
            _kid(old.kid),
            _number(new.recall, 3),
            _number(old.recall, 3),
        ]


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(heading) + " |", "|---|" + "---:|" * (len(heading) - 1)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def _read_log(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text().splitlines()]


def _thinned(lines: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Returns at most `_CURVE_POINTS` of the lines, evenly spread, including the last line."""
    step = -(-len(lines) // _CURVE_POINTS) or 1
    return lines[::-step][::-1]


def _bars(values: Sequence[float]) -> str:
    """Returns a curve with one character for each value."""
    low, high = min(values), max(values)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in values)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _kid(value: Estimate | None) -> str:
    return "-" if value is None else f"{1000 * value.value:.1f} ± {1000 * value.error:.1f}"
