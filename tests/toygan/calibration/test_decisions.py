"""A model's calibration follows people's decisions about its pictures."""

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli import cli
from tests.models import CPU, TinyFiles, tiny_model
from tests.toygan.calibration.decided import FEATURES, put_night
from toygan.artifact.calibration import Calibration
from toygan.artifact.files import CALIBRATION
from toygan.artifact.probe_weights import BACKBONE, ProbeWeights
from toygan.calibration.calibrate import calibrate_model
from toygan.calibration.decisions import calibrate_with_people, decided_pictures
from toygan.errors import BadInput
from toygan.registry.models import resolve
from toygan.review.record import decide
from toygan.storage.local import LocalStore


def calibration_in(folder: Path) -> Calibration:
    return Calibration.from_json(resolve(str(folder), None).files[CALIBRATION])


def probed(model: TinyFiles) -> TinyFiles:
    """The model with a probe that rates all pictures the same."""
    plain = Calibration.from_json(model.files[CALIBRATION])
    probe = ProbeWeights(backbone=BACKBONE, weights=(0.0,) * FEATURES, intercept=0.0)
    return model.with_files(calibration=replace(plain, probe=probe).to_json().encode())


def test_without_a_probe_thresholds_follow_the_stored_scores(tmp_path: Path) -> None:
    model, store = tiny_model(), LocalStore(tmp_path / "shop")
    folder = model.write(tmp_path / "tiny")
    source = resolve(str(folder), None)
    version = source.version
    before = calibration_in(folder).of("brick")
    middle = -before.intercept / before.coef
    logits = [middle + (number - 20) / 4 / before.coef for number in range(40)]
    ids = put_night(store, TinyFiles(name=source.name, files=source.files), logits)
    decide(store, "reject", ids[:30], by="Ann", reason=None)
    decide(store, "approve", ids[30:], by="Bo", reason=None)
    lines = list(
        calibrate_model(str(folder), photos=None, store_uri=None, device=CPU, decisions_uri=store.uri)
    )
    after = calibration_in(folder)
    assert after.agreement is not None
    assert after.agreement.decisions == 40
    assert (
        after.of("brick").p_real(logits[29])
        < after.of("brick").threshold
        <= after.of("brick").p_real(logits[30])
    )
    assert after.of("car") == calibration_in(folder).of("car")
    assert any(
        "40 decisions of people (a rejection weighs as much as 3 approvals): it agrees with" in line
        for line in lines
    )
    # Once more: the fit starts from what was there before people's decisions.
    source = resolve(str(folder), None)
    again = calibrate_with_people(after, replace(source, version=version), store, CPU)
    assert again == after


def test_pictures_of_other_models_or_with_other_faults_do_not_count(tmp_path: Path) -> None:
    model, store = tiny_model(), LocalStore(tmp_path / "shop")
    source = resolve(str(model.write(tmp_path / "tiny")), None)
    calibration = Calibration.from_json(source.files[CALIBRATION])
    other = put_night(store, model, [0.0, 0.0], model_name="other")
    decide(store, "reject", other, by="Ann", reason=None)
    with pytest.raises(BadInput, match="none of the 2 decisions of people is about a picture by tiny@"):
        decided_pictures(calibration, source, store, CPU)
    shop = LocalStore(tmp_path / "second")
    faulty = put_night(shop, model, [0.0, 0.0], reasons=["colour_off"])
    decide(shop, "approve", faulty, by="Ann", reason=None)
    with pytest.raises(BadInput, match="that passes all checks"):
        decided_pictures(calibration, source, shop, CPU)


def test_stored_scores_of_a_probe_are_not_taken_for_the_discriminators(tmp_path: Path) -> None:
    model, store = probed(tiny_model()), LocalStore(tmp_path / "shop")
    source = resolve(str(model.write(tmp_path / "tiny")), None)
    before = Calibration.from_json(source.files[CALIBRATION])
    ids = put_night(store, TinyFiles(name=source.name, files=source.files), [0.0, 1.0])
    decide(store, "approve", ids, by="Ann", reason=None)
    with pytest.raises(
        BadInput,
        match="did not compute the stored scores of the decided pictures; give --probe",
    ):
        decided_pictures(replace(before, probe=None), source, store, CPU)


@pytest.mark.slow
def test_a_probe_is_fitted_to_what_people_like(tmp_path: Path) -> None:
    """They like the red ones. A damaged file is left out."""
    model, store = probed(tiny_model()), LocalStore(tmp_path / "shop")
    folder = model.write(tmp_path / "tiny")
    name = resolve(str(folder), None).name
    ids = put_night(store, model, [0.0] * 41, model_name=name)
    decide(store, "approve", ids[:40:2], by="Ann", reason=None)
    decide(store, "reject", ids[1::2], by="Ann", reason="not red")
    decide(store, "approve", ids[40:], by="Ann", reason=None)
    damaged = next(info.key for info in store.list("images/") if ids[40] in info.key)
    store.put(damaged, b"no picture")
    lines = list(
        calibrate_model(str(folder), photos=None, store_uri=None, device=CPU, decisions_uri=store.uri)
    )
    after = calibration_in(folder)
    assert after.agreement is not None
    assert after.agreement.decisions == 40
    assert after.agreement.probe is not None
    assert after.agreement.after > 0.9
    assert "the probe was fitted to them" in "".join(lines)
    again = decided_pictures(after, resolve(str(folder), None), store, CPU)
    assert again.logits[again.is_approved].min() > again.logits[~again.is_approved].max()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "give --photos URI, --decisions URI or both"),
        (["--decisions", "shop", "--probe"], "--probe needs --photos"),
        (["--decisions", "shop", "--acceptance", "0.5"], "--acceptance needs --photos"),
    ],
)
def test_what_needs_photos_is_refused_without(options: list[str], said: str) -> None:
    result = CliRunner().invoke(cli, ["calibrate", "--model", "./tiny", *options])
    assert result.exit_code == 2
    assert said in result.output


def test_the_command_calibrates_by_decisions_alone(tmp_path: Path) -> None:
    folder = tiny_model().write(tmp_path / "tiny")
    source, store = resolve(str(folder), None), LocalStore(tmp_path / "shop")
    ids = put_night(
        store, TinyFiles(name=source.name, files=source.files), [float(each) for each in range(30)]
    )
    decide(store, "reject", ids[:15], by="Ann", reason=None)
    decide(store, "approve", ids[15:], by="Ann", reason=None)
    result = CliRunner().invoke(cli, ["calibrate", "--model", str(folder), "--decisions", store.uri])
    assert result.exit_code == 0
    assert "30 decisions of people" in result.output
