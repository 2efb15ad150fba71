"""The correction of the colours that networks are given."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.color import lab2rgb

from toygan.approval.colour_profile import colour_profile_of
from toygan.approval.measures import hex_to_lab
from toygan.artifact.colour_profile import ColourProfile, Shift
from toygan.conditions.colour import encode_colours

EVERYWHERE = ((-4.0,) * 3, (4.0,) * 3)
numbers = st.floats(-4, 4)
shifts: st.SearchStrategy[Shift] = st.tuples(*[st.tuples(numbers, numbers, numbers)] * 4)
profiles = st.dictionaries(st.text(max_size=5), shifts, max_size=3).flatmap(
    lambda chosen: st.builds(
        ColourProfile,
        shifts=st.just(chosen),
        ranges=st.just(dict.fromkeys(chosen, EVERYWHERE)),
        errors=st.fixed_dictionaries({name: st.tuples(numbers, numbers) for name in chosen}),
    )
)
NONE = ((0.0,) * 3,) * 3


def encoded(*colour_hexes: str | None) -> NDArray[np.float32]:
    """One product's colours, (1, K, 4)."""
    return encode_colours(colour_hexes).numpy()[None]


def test_a_constant_excess_is_the_constant() -> None:
    """One colour is shown as another one 10 times. The constant takes it all: its penalty is small."""
    profile = colour_profile_of({"car": [("#808080", "#A0A0B0")] * 10, "boat": []})
    excess = (hex_to_lab(["#A0A0B0"]) - hex_to_lab(["#808080"]))[0] / 50
    np.testing.assert_allclose(profile.shifts["car"], [excess, *NONE], atol=1e-5)
    assert profile.shifts.keys() == {"car"}
    (given,) = profile.correct(encoded("#808080"), ["car"])
    wanted = encode_colours(["#808080"]).numpy()
    np.testing.assert_allclose(wanted[0, :3] - given[0, :3], excess, atol=1e-5)
    assert given[0, 3] == 1


def test_the_slope_worked_by_hand() -> None:
    """Six blacks are shown as a grey of L* 50.03, y = 1.0007, and six whites as they are.

    The given L* are 0 and 2 in units of 50. With a free constant the slope is Sxy / (Sxx + 3), where
    Sxy = -6 y and Sxx = 12: -0.4 y. The constant is y / 2 + 0.4 y.
    """
    profile = colour_profile_of({"car": [("#000000", "#777777")] * 6 + [("#FFFFFF", "#FFFFFF")] * 6})
    y = 50.034 / 50
    wanted = [[0.9 * y, 0, 0], [-0.4 * y, 0, 0], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(profile.shifts["car"], wanted, atol=1e-4)
    # A grey of L* 50.03 is shown 0.9 y - 0.4 y y too light, so the given L* is 50.03 - 50 * 0.5 = 25.
    (given,) = profile.correct(encoded("#777777"), ["car"])
    np.testing.assert_allclose(given[0], [y - 1 - (0.9 - 0.4 * y) * y, 0, 0, 1], atol=1e-4)


def test_an_affine_excess_is_found_where_there_are_many_colours() -> None:
    """Dark colours are shown 10 L* lighter, light ones as they are. All are a little bluer, reds less red."""
    rng = np.random.default_rng(0)
    given = [f"#{bytes(rgb).hex()}" for rgb in rng.integers(60, 190, (5000, 3), dtype=np.uint8)]
    shift = np.array([[0.2, 0, -0.1], [-0.1, 0, 0], [0, -0.2, 0], [0, 0, 0.05]])
    lab = hex_to_lab(given) / 50
    excess = np.concatenate([np.ones((len(lab), 1)), lab], axis=1) @ shift
    shown = [f"#{bytes(rgb).hex()}" for rgb in (lab2rgb(50 * (lab + excess)) * 255).round().astype(np.uint8)]
    profile = colour_profile_of({"car": list(zip(given, shown, strict=True))})
    np.testing.assert_allclose(profile.shifts["car"], shift, atol=0.005)


def test_the_correction_fades_beyond_the_fitted_colours() -> None:
    """Greys of L* 20 to 40 are shown 10 too light.

    L* 55 is at half of the fading distance, and L* 90 is beyond it. Red has a fitted lightness, but its hue
    is far from all fitted colours.
    """
    black, dark = (0.4, 0.0, 0.0), (0.8, 0.0, 0.0)
    profile = ColourProfile(shifts={"car": ((0.2, 0, 0), *NONE)}, ranges={"car": (black, dark)})
    given = np.array(
        [[[lightness / 50 - 1, 0, 0, 1] for lightness in (20, 30, 40, 55, 90)]], dtype=np.float32
    )
    changes = 50 * (given - profile.correct(given, ["car"]))[0]
    np.testing.assert_allclose(changes[:, 0], [10, 10, 10, 5, 0], atol=1e-3)
    assert not changes[:, 1:].any()
    assert (profile.correct(encoded("#B40000"), ["car"]) == encoded("#B40000")).all()


def test_the_fitted_colours_are_in_the_range() -> None:
    """Rounding leaves no fitted colour outside."""
    given = ["#B40000", "#FAC80A", "#1B2A34", "#F4F4F4", "#469BC3"]
    profile = colour_profile_of({"car": [(each, "#808080") for each in given]})
    everywhere = ColourProfile(shifts=profile.shifts, ranges={"car": EVERYWHERE})
    assert (profile.correct(encoded(*given), ["car"]) == everywhere.correct(encoded(*given), ["car"])).all()


def test_lightness_stays_in_its_range() -> None:
    profile = ColourProfile(
        shifts={"up": ((-3.0, 0, 0), *NONE), "down": ((3.0, 0, 0), *NONE)},
        ranges={"up": EVERYWHERE, "down": EVERYWHERE},
    )
    lightness = profile.correct(np.concatenate([encoded("#808080")] * 2), ["up", "down"])[:, 0, 0]
    assert lightness.tolist() == [1, -1]


@given(profiles, st.lists(st.sampled_from(["#B40000", "#FFFFFF", None]), min_size=1, max_size=4))
def test_unknown_colours_and_other_categories_stay(profile: ColourProfile, given: list[str | None]) -> None:
    colours = np.concatenate([encoded(*given)] * 4)
    known = [*profile.shifts, "", "", ""][:3]
    corrected = profile.correct(colours, [*known, "another category"])
    unknown = colours[..., 3] == 0
    assert corrected.dtype == np.float32
    assert not corrected[unknown].any()
    assert (corrected[..., 3] == colours[..., 3]).all()
    assert (corrected[3] == colours[3]).all()
    assert (np.abs(corrected[..., 0]) <= 1.0001).all()
    # the batch-mates do not matter
    alone = profile.correct(colours[1:2], [known[1]])
    assert (alone[0] == corrected[1]).all()


@given(profiles)
def test_it_travels_as_json(profile: ColourProfile) -> None:
    assert ColourProfile.from_json(json.loads(json.dumps(profile.to_json()))) == profile


@pytest.mark.parametrize("shift", [((0.0,) * 3,) * 3, ((0.0,) * 4,) * 4, (*NONE, (0.0, 0.0, float("inf")))])
def test_what_is_no_shift_is_refused(shift: Shift) -> None:
    with pytest.raises(ValueError, match="the shift of 'car'"):
        ColourProfile(shifts={"car": shift}, ranges={"car": EVERYWHERE})


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({}, "a shift without a range"),
        ({"car": EVERYWHERE, "boat": EVERYWHERE}, "a range without a shift"),
        ({"car": EVERYWHERE[:1]}, "the range of 'car' must be 2 rows of 3 numbers"),
        ({"car": (EVERYWHERE[0], (1.0, 1.0, float("nan")))}, "the range of 'car' holds nan"),
        ({"car": EVERYWHERE[::-1]}, "the range of 'car' ends before it begins"),
    ],
)
def test_what_is_no_range_is_refused(ranges: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ColourProfile(shifts={"car": ((0.0,) * 3,) * 4}, ranges=ranges)
