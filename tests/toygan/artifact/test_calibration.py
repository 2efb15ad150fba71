import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from toygan.artifact.calibration import Calibration, CalibrationSettings, CategoryCalibration
from toygan.artifact.colour_profile import ColourProfile
from toygan.artifact.limits import CategoryLimits
from toygan.artifact.probe_weights import BACKBONE, ProbeWeights
from toygan.errors import ModelError

BRICK = CategoryCalibration(
    coef=2.0,
    intercept=-1.0,
    threshold=0.4,
    pooled=False,
    ece=0.03,
    n_real=30,
    n_generated=200,
    limits=CategoryLimits(
        contrast_min=10,
        fill_ratio_min=0.1,
        fill_ratio_max=0.6,
        background_white_min=0.9,
        colour_delta_e_max=None,
    ),
)
CALIBRATION = Calibration(
    categories={"brick": BRICK, "car": replace(BRICK, pooled=True, ece=None)},
    ece=0.05,
    settings=CalibrationSettings(),
    warnings=("car: few",),
)
PROBE = ProbeWeights(backbone=BACKBONE, weights=(0.5, -1.25e-7), intercept=3.0)
PROBED = replace(CALIBRATION, probe=PROBE)

LIGHTER = ((0.2, 0.0, 0.0), (-0.1, 0.0, 0.0), (0.0,) * 3, (0.0, 0.0, 0.5))
PROFILED = replace(
    CALIBRATION,
    colour_profile=ColourProfile(
        shifts={"brick": LIGHTER}, ranges={"brick": ((0.0,) * 3, (1.0,) * 3)}, errors={"brick": (6.2, 4.1)}
    ),
)


def test_p_real_is_the_logistic_function_of_the_logit() -> None:
    # 2 * 0.5 - 1 = 0; 2 * 1 - 1 = 1 and 1 / (1 + 1/e) = 0.7310586.
    p_real = BRICK.p_reals(np.array([[0.5, 1.0], [np.inf, -np.inf]], dtype=np.float32))
    np.testing.assert_allclose(p_real, np.array([[0.5, 0.7310586], [1, 0]]), rtol=1e-7)
    assert p_real.dtype == np.float64
    assert np.isnan(BRICK.p_real(float("nan")))


def test_huge_logits_do_not_overflow() -> None:
    with np.errstate(all="raise", under="ignore"):
        assert BRICK.p_reals([-1e9, 1e9]).tolist() == [0.0, 1.0]


def test_it_travels_as_json_text() -> None:
    text = CALIBRATION.to_json()
    assert Calibration.from_json(text) == Calibration.from_json(text.encode()) == CALIBRATION
    assert json.loads(text)["version"] == 1
    assert "probe" not in json.loads(text)


def test_a_probe_travels_too() -> None:
    """It has another version, because a program without probes would use the discriminator's logit."""
    text = PROBED.to_json()
    assert Calibration.from_json(text) == PROBED
    assert json.loads(text)["version"] == 2


@pytest.mark.parametrize("before", [CALIBRATION, PROBED])
def test_a_colour_profile_travels_too(before: Calibration) -> None:
    """An older calibration has none."""
    assert before.colour_profile is None
    assert "colour_profile" not in json.loads(before.to_json())
    profiled = replace(before, colour_profile=PROFILED.colour_profile)
    assert Calibration.from_json(profiled.to_json()) == profiled
    assert json.loads(profiled.to_json())["version"] == json.loads(before.to_json())["version"]


def test_an_unknown_category_is_named() -> None:
    assert CALIBRATION.of("brick") is BRICK
    with pytest.raises(ModelError, match="not calibrated for 'boat', only for brick, car"):
        CALIBRATION.of("boat")


def brick(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = values["categories"]["brick"]
    return found


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda v: v.pop("ece"), r"lacks \['ece'\]"),
        (lambda v: v.update(ece="0.1"), "ece is '0.1'"),
        (lambda v: v.update(version=3), "version is 3, but this program reads the versions 1 and 2"),
        (lambda v: v.update(version=2), r"lacks \['probe'\]"),
        (lambda v: v.update(extra=1), r"unknown \['extra'\]"),
        (lambda v: v.update(categories={}), "no category"),
        (lambda v: v.update(categories=[1]), "calibration of the model cannot be used"),
        (lambda v: v["settings"].update(acceptance=0), "acceptance is 0"),
        (lambda v: v["settings"].pop("bins"), r"settings lacks \['bins'\]"),
        (lambda v: brick(v).update(coef=-1.0), "'brick': coef is -1.0"),
        (lambda v: brick(v).update(coef=float("inf")), "'brick': coef is inf"),
        (lambda v: brick(v).update(threshold=1.5), "'brick': threshold is 1.5"),
        (lambda v: brick(v).update(threshold=None), "'brick': threshold is None"),
        (lambda v: brick(v).pop("intercept"), r"'brick': it lacks \['intercept'\]"),
        (lambda v: brick(v)["limits"].update(contrast_min="x"), "'brick': contrast_min is 'x'"),
        (lambda v: brick(v).update(limits=None), "'brick'"),
        (lambda v: v["categories"].update(brick=7), "'brick': it is not an object"),
    ],
)
def test_damage_is_named(damage: Callable[[dict[str, Any]], object], message: str) -> None:
    values = json.loads(CALIBRATION.to_json())
    damage(values)
    with pytest.raises(ModelError, match=message):
        Calibration.from_json(json.dumps(values))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda v: v.pop("probe"), r"lacks \['probe'\]"),
        (lambda v: v.update(version=1), r"unknown \['probe'\]"),
        (lambda v: v.update(probe=None), "probe is not an object"),
        (lambda v: v["probe"].pop("backbone"), r"probe lacks \['backbone'\]"),
        (lambda v: v["probe"].update(weights=["x"]), "probe: could not convert"),
        (lambda v: v["probe"].update(weights=[]), "probe: a probe has one or more weights"),
        (lambda v: v["probe"].update(intercept=None), "probe: float"),
        (lambda v: v["probe"].update(evidence="any"), "probe: its evidence is 'any'; known are deepest"),
        (lambda v: v["probe"].update(side=0), "probe: its side is 0; it must be a number of pixels"),
        (lambda v: v["probe"].update(side=10**6), "probe: its side is 1000000; it must be .* up to 1024"),
        (lambda v: v["probe"].update(side=True), "probe: its side is True"),
        (lambda v: v["probe"].update(side="224"), "probe: its side is '224'"),
    ],
)
def test_damage_to_a_probe_is_named(damage: Callable[[dict[str, Any]], object], message: str) -> None:
    values = json.loads(PROBED.to_json())
    damage(values)
    with pytest.raises(ModelError, match=message):
        Calibration.from_json(json.dumps(values))


RANGES = {"car": [[0.0] * 3, [1.0] * 3]}


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (None, "colour_profile is not an object"),
        ({"shifts": {}, "ranges": {}}, r"colour_profile lacks \['errors'\]"),
        ({"shifts": {}, "ranges": {}, "errors": {}, "more": 1}, r"unknown \['more'\]"),
        ({"shifts": 1, "ranges": {}, "errors": {}}, "colour_profile: 'int'"),
        ({"shifts": {"car": 1}, "ranges": {}, "errors": {}}, "colour_profile: 'int'"),
        (
            {"shifts": {"car": LIGHTER[:3]}, "ranges": RANGES, "errors": {}},
            "'car' must be 4 rows of 3 numbers",
        ),
        (
            {"shifts": {"car": [[0.0] * 4] * 3}, "ranges": RANGES, "errors": {}},
            "'car' must be 4 rows of 3 numbers",
        ),
        (
            {"shifts": {"car": [*LIGHTER[:3], ["0", 0, 0]]}, "ranges": RANGES, "errors": {}},
            "'car' holds '0'; .* finite",
        ),
        (
            {"shifts": {"car": [*LIGHTER[:3], [True, 0, 0]]}, "ranges": RANGES, "errors": {}},
            "'car' holds True",
        ),
        (
            {"shifts": {"car": [*LIGHTER[:3], [float("nan"), 0, 0]]}, "ranges": RANGES, "errors": {}},
            "'car' holds nan",
        ),
        (
            {"shifts": {"car": LIGHTER}, "ranges": RANGES, "errors": {"car": [1.0]}},
            "errors of 'car' must be 2 numbers",
        ),
        (
            {"shifts": {"car": LIGHTER}, "ranges": RANGES, "errors": {"car": [1.0, None]}},
            "errors of 'car' holds None",
        ),
        (
            {"shifts": {}, "ranges": {}, "errors": {"car": [1.0, 0.5]}},
            "a category has errors without a shift",
        ),
        ({"shifts": {"car": LIGHTER}, "ranges": {"car": [[0.0]]}, "errors": {}}, "'car' must be 2 rows of 3"),
        ({"shifts": {}, "ranges": RANGES, "errors": {}}, "a range without a shift"),
    ],
)
def test_damage_to_a_colour_profile_is_named(profile: Any, message: str) -> None:
    values = json.loads(CALIBRATION.to_json()) | {"colour_profile": profile}
    with pytest.raises(ModelError, match=f"{message}.*calibrate it again"):
        Calibration.from_json(json.dumps(values))


@pytest.mark.parametrize("text", ["null", "[]", "1", '"text"'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match="is not an object"):
        Calibration.from_json(text)


@pytest.mark.parametrize("text", ["", CALIBRATION.to_json()[:100], b"\xff\xfe\x00", b"\x80"])
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(ModelError, match="cannot be used"):
        Calibration.from_json(text)


@pytest.mark.parametrize("change", [{"acceptance": 1.1}, {"acceptance": 0.0}, {"folds": 1}, {"bins": 0}])
def test_settings_are_checked(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        CalibrationSettings(**change)
