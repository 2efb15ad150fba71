"""Which colours to tell networks that show others."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.color import lab2rgb

from toygan.approval.colour_profile import ColourProfile, Shift
from toygan.approval.measures import hex_to_lab
from toygan.conditions.colour import encode_colours

numbers = st.floats(-4, 4)
shifts: st.SearchStrategy[Shift] = st.tuples(*[st.tuples(numbers, numbers, numbers)] * 4)
profiles = st.dictionaries(st.text(max_size=5), shifts, max_size=3).flatmap(
    lambda chosen: st.builds(
        ColourProfile,
        shifts=st.just(chosen),
        errors=st.fixed_dictionaries({name: st.tuples(numbers, numbers) for name in chosen}),
    )
)
NONE = ((0.0,) * 3,) * 3


def encoded(*colour_hexes: str | None) -> NDArray[np.float32]:
    """One product's colours, (1, K, 4)."""
    return encode_colours(colour_hexes).numpy()[None]


def test_a_constant_excess_is_the_constant() -> None:
    """One colour, shown as another 10 times: only the row of 1 is hardly penalised."""
    profile = ColourProfile.fit({"car": [("#808080", "#A0A0B0")] * 10, "boat": []})
    excess = (hex_to_lab(["#A0A0B0"]) - hex_to_lab(["#808080"]))[0] / 50
    np.testing.assert_allclose(profile.shifts["car"], [excess, *NONE], atol=1e-5)
    assert profile.shifts.keys() == {"car"}
    (told,) = profile.correct(encoded("#808080"), ["car"])
    wanted = encode_colours(["#808080"]).numpy()
    np.testing.assert_allclose(wanted[0, :3] - told[0, :3], excess, atol=1e-5)
    assert told[0, 3] == 1


def test_the_slope_worked_by_hand() -> None:
    """Six blacks are shown as a grey of L* 50.03, y = 1.0007, six whites as they are.

    The told L* are 0 and 2 in units of 50. With the constant free the slope is Sxy / (Sxx + 3), where
    Sxy = -6 y and Sxx = 12: -0.4 y. The constant is y / 2 + 0.4 y.
    """
    profile = ColourProfile.fit({"car": [("#000000", "#777777")] * 6 + [("#FFFFFF", "#FFFFFF")] * 6})
    y = 50.034 / 50
    wanted = [[0.9 * y, 0, 0], [-0.4 * y, 0, 0], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(profile.shifts["car"], wanted, atol=1e-4)
    # Of a grey of L* 50.03 that is 0.9 y - 0.4 y y too much: it is told L* 50.03 - 50 * 0.5 = 25.
    (told,) = profile.correct(encoded("#777777"), ["car"])
    np.testing.assert_allclose(told[0], [y - 1 - (0.9 - 0.4 * y) * y, 0, 0, 1], atol=1e-4)


def test_an_affine_excess_is_found_where_there_are_many_colours() -> None:
    """Dark ones are shown 10 L* lighter, light ones as they are; all a little bluer, reds less red."""
    rng = np.random.default_rng(0)
    told = [f"#{bytes(rgb).hex()}" for rgb in rng.integers(60, 190, (5000, 3), dtype=np.uint8)]
    shift = np.array([[0.2, 0, -0.1], [-0.1, 0, 0], [0, -0.2, 0], [0, 0, 0.05]])
    lab = hex_to_lab(told) / 50
    excess = np.concatenate([np.ones((len(lab), 1)), lab], axis=1) @ shift
    shown = [f"#{bytes(rgb).hex()}" for rgb in (lab2rgb(50 * (lab + excess)) * 255).round().astype(np.uint8)]
    profile = ColourProfile.fit({"car": list(zip(told, shown, strict=True))})
    np.testing.assert_allclose(profile.shifts["car"], shift, atol=0.005)


def test_lightness_stays_in_its_range() -> None:
    profile = ColourProfile(shifts={"up": ((-3.0, 0, 0), *NONE), "down": ((3.0, 0, 0), *NONE)})
    lightness = profile.correct(np.concatenate([encoded("#808080")] * 2), ["up", "down"])[:, 0, 0]
    assert lightness.tolist() == [1, -1]


@given(profiles, st.lists(st.sampled_from(["#B40000", "#FFFFFF", None]), min_size=1, max_size=4))
def test_what_is_unknown_or_of_other_categories_stays(profile: ColourProfile, told: list[str | None]) -> None:
    colours = np.concatenate([encoded(*told)] * 4)
    known = [*profile.shifts, "", "", ""][:3]
    corrected = profile.correct(colours, [*known, "another category"])
    unknown = colours[..., 3] == 0
    assert corrected.dtype == np.float32
    assert not corrected[unknown].any()
    assert (corrected[..., 3] == colours[..., 3]).all()
    assert (corrected[3] == colours[3]).all()
    assert (np.abs(corrected[..., 0]) <= 1.0001).all()
    # whatever its batch-mates
    alone = profile.correct(colours[1:2], [known[1]])
    assert (alone[0] == corrected[1]).all()


@given(profiles)
def test_it_travels_as_json(profile: ColourProfile) -> None:
    assert ColourProfile.from_json(json.loads(json.dumps(profile.to_json()))) == profile


@pytest.mark.parametrize("shift", [((0.0,) * 3,) * 3, ((0.0,) * 4,) * 4, (*NONE, (0.0, 0.0, float("inf")))])
def test_what_is_no_shift_is_refused(shift: Shift) -> None:
    with pytest.raises(ValueError, match="the shift of 'car'"):
        ColourProfile(shifts={"car": shift})
