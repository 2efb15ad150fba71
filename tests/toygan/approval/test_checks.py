import io
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from toygan.approval.checks import (
    KNOWN_SHAPE_SIMILARITY,
    LEAST_OUTLINE,
    REASONS,
    Reason,
    check,
    fit_limits,
    is_near_copy,
)
from toygan.approval.measures import Measures, measure
from toygan.artifact.limits import CategoryLimits
from toygan.images import decode

LIMITS = CategoryLimits(
    contrast_min=10,
    fill_ratio_min=0.1,
    fill_ratio_max=0.6,
    background_white_min=0.9,
    colour_delta_e_max=15,
    outline_seen_min=0.85,
)
GOOD = Measures(
    fill_ratio=0.3,
    background_white=0.98,
    contrast=50,
    main_colour="#C8141E",
    colour_delta_e=5,
    phash="00" * 8,
    outline_seen=1.0,
)


def test_a_good_picture_has_no_reasons() -> None:
    assert check(GOOD, LIMITS) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"contrast": 9.99}, "blank"),
        ({"fill_ratio": 0.09}, "fill_ratio_low"),
        ({"fill_ratio": 0.61}, "fill_ratio_high"),
        ({"background_white": 0.89}, "background_not_white"),
        ({"outline_seen": 0.84}, "outline_lost"),
        ({"mixed_colours": 0.0031}, "colours_mixed"),
        ({"colour_delta_e": 15.1}, "colour_off"),
    ],
)
def test_each_measure_has_its_reason(change: dict[str, float], reason: Reason) -> None:
    assert check(replace(GOOD, **change), LIMITS) == [reason]  # type: ignore[arg-type]
    assert reason in REASONS


def test_limits_belong_to_what_is_allowed() -> None:
    at_limits = replace(
        GOOD,
        contrast=10,
        fill_ratio=0.6,
        background_white=0.9,
        colour_delta_e=15,
        outline_seen=0.85,
        mixed_colours=0.003,
    )
    assert check(at_limits, LIMITS) == []
    assert check(replace(at_limits, fill_ratio=0.1), LIMITS) == []


def test_all_reasons_are_returned_in_order() -> None:
    bad = replace(GOOD, contrast=0, fill_ratio=0.0, background_white=0.1, colour_delta_e=80, outline_seen=0)
    bad = replace(bad, mixed_colours=1.0)
    measured: list[Reason] = [
        "blank",
        "fill_ratio_low",
        "background_not_white",
        "outline_lost",
        "colours_mixed",
        "colour_off",
    ]
    assert check(bad, LIMITS) == measured
    assert check(bad, LIMITS, 0.5) == [*measured, "shape_guessed"]


def test_a_picture_of_no_known_colour_does_not_pass() -> None:
    assert check(replace(GOOD, colour_delta_e=None), LIMITS) == ["colour_unknown"]


def test_without_a_shape_there_is_no_outline_check() -> None:
    assert check(replace(GOOD, outline_seen=None), LIMITS) == []


def test_no_limit_lets_another_colour_pass() -> None:
    loose = replace(LIMITS, colour_delta_e_max=44)
    assert check(replace(GOOD, colour_delta_e=20), loose) == []
    assert check(replace(GOOD, colour_delta_e=20.1), loose) == ["colour_off"]


def test_without_a_limit_there_is_no_colour_check() -> None:
    for distance in (None, 80):
        assert check(replace(GOOD, colour_delta_e=distance), replace(LIMITS, colour_delta_e_max=None)) == []


@given(st.floats(-1, 1) | st.sampled_from([0.998, 0.999]))
def test_a_shape_is_known_where_the_texts_are_the_same(similarity: float) -> None:
    guessed = check(GOOD, LIMITS, similarity)
    assert guessed == ([] if similarity >= KNOWN_SHAPE_SIMILARITY else ["shape_guessed"])


def photos(count: int, *, colour: bool = True) -> list[Measures]:
    """Photos whose measures run from 0 to 1 in equal steps, and the distance from 0 to 100."""
    return [
        replace(
            GOOD,
            fill_ratio=x,
            background_white=x,
            contrast=x,
            colour_delta_e=100 * float(x) if colour else None,
            outline_seen=x,
        )
        for x in np.linspace(0, 1, count)
    ]


def test_limits_are_the_first_and_the_last_percentile() -> None:
    assert fit_limits({"brick": photos(101)})["brick"] == CategoryLimits(
        contrast_min=0.01,
        fill_ratio_min=0.01,
        fill_ratio_max=0.99,
        background_white_min=0.01,
        colour_delta_e_max=99,
        outline_seen_min=LEAST_OUTLINE,
    )


def test_photos_of_unknown_shapes_give_no_limit_of_the_outline() -> None:
    unknown = [replace(each, outline_seen=None) for each in photos(101)]
    assert fit_limits({"brick": unknown})["brick"].outline_seen_min == 0


def test_a_category_with_few_photos_takes_the_limits_of_all() -> None:
    few = [replace(GOOD, fill_ratio=0.5)] * 49
    limits = fit_limits({"brick": photos(101), "car": few, "tower": []})
    assert limits["car"] == limits["tower"] == fit_limits({"all": [*photos(101), *few]})["all"]
    assert limits["car"] != limits["brick"]


def test_photos_without_colours_take_the_colour_limit_of_the_others() -> None:
    limits = fit_limits({"brick": photos(101), "car": photos(60, colour=False)})
    assert limits["car"].colour_delta_e_max == 99
    assert fit_limits({"car": photos(60, colour=False)})["car"].colour_delta_e_max is None


def test_limits_need_photos() -> None:
    with pytest.raises(ValueError, match="at least one photo"):
        fit_limits({"brick": []})


def test_limits_travel_as_json() -> None:
    for limits in (LIMITS, replace(LIMITS, colour_delta_e_max=None), replace(LIMITS, outline_seen_min=0)):
        assert CategoryLimits.from_json(limits.to_json()) == limits


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fill_ratio_min": None}, "fill_ratio_min is None"),
        ({"contrast_min": float("nan")}, "contrast_min is nan"),
        ({"contrast_min": True}, "contrast_min is True"),
        ({"fill_ratio_min": 0.7}, "above fill_ratio_max"),
        ({"surprise": 1.0}, "surprise"),
    ],
)
def test_wrong_limits_are_refused_by_name(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CategoryLimits.from_json({**LIMITS.to_json(), **change})


@pytest.mark.parametrize(
    ("other", "near"), [("0000000000000000", True), ("000000000000000f", True), ("000000000000001f", False)]
)
def test_up_to_four_bits_make_a_near_copy(other: str, near: bool) -> None:
    assert is_near_copy("0000000000000000", ["ffffffffffffffff", other]) is near


def test_nothing_is_a_near_copy_of_nothing() -> None:
    assert not is_near_copy("0000000000000000", [])


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_nearness_is_symmetric(one: int, other: int) -> None:
    assert is_near_copy(f"{one:016x}", [f"{other:016x}"]) == is_near_copy(f"{other:016x}", [f"{one:016x}"])


def test_real_photos_pass_and_spoilt_ones_do_not(toybricks: Path) -> None:
    columns = ["category", "colour_hex", "photo", "split"]
    rows = pq.read_table(toybricks / "photos" / "photos-000.parquet", columns=columns).to_pylist()
    rows = [row for row in rows if row["split"] == "train" and row["category"] == "minifigure"]
    pictures = np.stack([np.asarray(Image.fromarray(decode(row["photo"])).resize((64, 64))) for row in rows])
    colours = [row["colour_hex"] for row in rows]
    real = measure(pictures, colours)
    limits = fit_limits({"minifigure": real})["minifigure"]
    assert np.mean([check(each, limits) == [] for each in real]) > 0.9

    def share(spoilt: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], reason: Reason) -> float:
        return float(np.mean([reason in check(each, limits) for each in measure(spoilt, colours)]))

    assert share(np.full_like(pictures, 255), "blank") == 1
    assert share(np.roll(pictures, 24, axis=2), "background_not_white") > 0.9
    assert share((pictures * [1, 0.95, 0.85]).astype(np.uint8), "background_not_white") > 0.9
    assert share(np.repeat(np.repeat(pictures[:, 16:48, 16:48], 2, 1), 2, 2), "fill_ratio_high") > 0.9
    grey = np.repeat(pictures.mean(axis=3, keepdims=True), 3, axis=3).astype(np.uint8)
    assert share(grey, "colour_off") > 0.5

    again = []
    for picture in pictures[:50]:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=85)
        again.append(decode(file.getvalue()))
    copies = measure(np.stack(again), colours[:50])
    assert np.mean([is_near_copy(c.phash, [r.phash]) for c, r in zip(copies, real, strict=False)]) > 0.9
    others = pairwise(real)
    assert np.mean([is_near_copy(one.phash, [other.phash]) for one, other in others]) < 0.1
