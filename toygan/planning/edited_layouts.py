"""Makes layouts for rows that describe a layout by the layouts of other rows, recoloured or combined.

The `layout_uri` of such a row becomes a name that is no file: `edited:` and a JSON object. A catalog can hold
no such name, because the paths in it have no scheme. All other code treats the name as that of a file.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from catalog_schemas.products import CONDITION_COLUMNS, DRESS_PATTERN, EDIT_COLUMNS, RECOLOUR_PATTERN
from catalog_schemas.validation import CheckedTable, rejected_frame
from toygan.conditions.colour_table import label_of
from toygan.errors import BadInput
from toygan.images import decode_labels, encode_labels

PREFIX: Final = "edited:"
_BETWEEN = re.compile("[,;，；]")


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Says how an edited layout is made. Paths are relative to the catalog; labels are 1..255."""

    base: str
    recolour: tuple[tuple[int, int], ...] = ()  # pairs of an old and a new label, replaced all at once
    dress_from: str | None = None  # a layout
    dress_labels: tuple[int, ...] = ()  # the labels that are taken from `dress_from`

    @property
    def name(self) -> str:
        """The name of the layout: the base itself if nothing is changed."""
        if not self.recolour and self.dress_from is None:
            return self.base
        return PREFIX + self.to_json()

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @classmethod
    def named(cls, name: str) -> Self:
        """The inverse of `name` for an edited layout."""
        content = json.loads(name.removeprefix(PREFIX))
        content["recolour"] = tuple((old, new) for old, new in content["recolour"])
        return cls(**{**content, "dress_labels": tuple(content["dress_labels"])})


class _Unusable(Exception):
    def __init__(self, column: str, reason: str) -> None:
        super().__init__(reason)
        self.column, self.reason = column, reason


def own_layouts(batches: Iterable[CheckedTable]) -> dict[str, str]:
    """Returns the path of the layout of each good row that has one, by sku."""
    layouts: dict[str, str] = {}
    column = CONDITION_COLUMNS["layout"]
    for batch in batches:
        given = batch.good[batch.good[column].notna()]
        layouts.update(zip(given["sku"].to_list(), given[column].to_list(), strict=True))
    return layouts


def with_edited_layouts(checked: CheckedTable, layouts: Mapping[str, str]) -> CheckedTable:
    """Gives each good row with a value in EDIT_COLUMNS the name of its edited layout, or sets the row aside.

    `layouts` maps a sku to the path of its row's layout.
    """
    good = checked.good
    edited = good[good[list(EDIT_COLUMNS)].notna().any(axis=1)]
    if edited.empty:
        return checked
    names: dict[int, str] = {}
    problems: list[tuple[int, str, str]] = []
    for number, row in zip(edited.index, edited.to_dict("records"), strict=True):
        given = {str(name): value if isinstance(value, str) else None for name, value in row.items()}
        try:
            names[number] = _edit_of(given, layouts).name
        except _Unusable as problem:
            problems.append((number, problem.column, problem.reason))
    column = CONDITION_COLUMNS["layout"]
    good = good.assign(**{column: pd.Series(names, dtype=object).reindex(good.index).fillna(good[column])})
    found = pd.DataFrame(problems, columns=["row", "column", "reason"]).astype({"row": "int64"})
    rejected = rejected_frame(found, good["sku"].loc[found["row"]])
    return replace(
        checked,
        good=good[~good.index.isin(found["row"])],
        rejected=pd.concat([checked.rejected, rejected]).sort_values("row", kind="stable"),
    )


def layout_of_row(
    row: Mapping[str, object], layouts: Mapping[str, str], read: Callable[[str], bytes]
) -> bytes:
    """Makes the layout of one row that has a value in EDIT_COLUMNS. Returns a PNG of labels.

    The row may come from anywhere, not only from a checked catalog. `layouts` is that of
    `with_edited_layouts`. Raises BadInput as `make_layout`, and for a value that describes no edit.
    """
    names = (*EDIT_COLUMNS, *CONDITION_COLUMNS.values())
    given = {name: None if row.get(name) is None else str(row[name]) for name in names}
    for column, pattern in (("recolour", RECOLOUR_PATTERN), ("dress_from", DRESS_PATTERN)):
        text = given[column]
        if text is not None and not pattern.fullmatch(text):
            raise BadInput(f"{column}: malformed: {text!r:.80}; see catalog_schemas/README.md")
    try:
        edit = _edit_of(given, layouts)
    except _Unusable as problem:
        raise BadInput(f"{problem.column}: {problem}") from None
    return make_layout(PREFIX + edit.to_json(), read)


def make_layout(name: str, read: Callable[[str], bytes]) -> bytes:
    """Makes the edited layout `name` from files, whose content `read` returns. Returns a PNG of labels.

    Raises BadInput if a file is not a layout, or if a layout does not have a label that the edit names. The
    message is the reason why the row is set aside.
    """
    edit = Edit.named(name)
    labels = _labels(edit.base, read)
    table = np.arange(256, dtype=np.uint8)
    for old, new in edit.recolour:
        _check_has(labels, old, edit.base)
        table[old] = new
    made = table[labels]
    if edit.dress_from is not None:
        other = _labels(edit.dress_from, read)
        for label in edit.dress_labels:
            _check_has(other, label, edit.dress_from)
        if other.shape != made.shape:
            height, width = made.shape
            other = np.asarray(Image.fromarray(other).resize((width, height), Image.Resampling.NEAREST))
        made = np.where(np.isin(other, edit.dress_labels), other, made)
    return encode_labels(made)


def _edit_of(row: Mapping[str, str | None], layouts: Mapping[str, str]) -> Edit:
    variant_of, recolour, dress_from = (row[column] for column in EDIT_COLUMNS)
    first = next(column for column in EDIT_COLUMNS if row[column] is not None)
    if row["photo_uri"] is not None:
        raise _Unusable(first, "has_photo")
    base = row["layout_uri"]
    if variant_of is not None:
        if base is not None:
            raise _Unusable("variant_of", "has_layout")
        base = _layout_of(variant_of, "variant_of", layouts)
    if base is None:
        raise _Unusable(first, "has_no_layout")
    edit = Edit(base=base)
    if recolour is not None:
        pairs = (pair.split("=") for pair in _BETWEEN.split(recolour))
        edit = replace(
            edit, recolour=tuple((_label(old, "recolour"), _label(new, "recolour")) for old, new in pairs)
        )
    if dress_from is not None:
        sku, _, wanted = dress_from.rpartition("=")
        edit = replace(
            edit,
            dress_from=_layout_of(sku.strip(), "dress_from", layouts),
            dress_labels=tuple(_label(each, "dress_from") for each in _BETWEEN.split(wanted)),
        )
    return edit


def _layout_of(sku: str, column: str, layouts: Mapping[str, str]) -> str:
    if (layout := layouts.get(sku)) is None:
        raise _Unusable(column, f"no_row_with_layout: {sku}")
    return layout


def _label(name: str, column: str) -> int:
    if (label := label_of(name)) is None:
        raise _Unusable(column, f"unknown_label: {name.strip()}")
    return label


def _labels(name: str, read: Callable[[str], bytes]) -> NDArray[np.uint8]:
    data = read(name)
    try:
        return decode_labels(data)
    except BadInput as error:
        raise BadInput(f"condition_file_unusable: {name}: {error}") from None


def _check_has(labels: NDArray[np.uint8], label: int, name: str) -> None:
    if not (labels == label).any():
        raise BadInput(f"label_not_in_layout: {label} in {name}")
