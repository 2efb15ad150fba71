"""The model card: what a shop reads when it asks why its model was, or was not, replaced."""

import json
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest

from tests.toygan.retraining.evaluations import evaluation
from toygan.images import decode, encode
from toygan.retraining.card import PREVIEW, model_card, with_preview
from toygan.retraining.decide import decide
from toygan.retraining.plan import Plan
from toygan.retraining.request import Limits
from toygan.retraining.snapshot import Contents

CONTENTS = Contents(
    uploads=1200,
    titled=900,
    others=0,
    left_out={"castle": 4},
    broken=2,
    by_category={
        "brick": {"train": 600, "calibration": 60, "val": 50},
        "car": {"train": 400, "calibration": 40, "val": 50},
    },
)
PLAN = Plan(name="tiny", version="a" * 12, is_bundled=True, photos=None, max_images=64_000, contents=CONTENTS)


@pytest.fixture
def training_log(tmp_path: Path) -> Path:
    """A loss that falls from 19 to 0, and one that stays."""
    lines = [
        {"images_seen": 100 * step, "generator": 20.0 - step, "discriminator": 2.0} for step in range(1, 21)
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return log


def card(training_log: Path, *, kid: float) -> str:
    challenger, champion = (
        evaluation((kid, 0.003), 0.6, version="b" * 12),
        evaluation((0.05, 0.004), version="a" * 12),
    )
    decision = decide(challenger, champion, categories=("brick", "car"), limits=Limits())
    return model_card(
        PLAN, challenger=challenger, champion=champion, decision=decision, training_log=training_log
    )


def test_the_card_of_a_challenger_that_is_promoted(training_log: Path) -> None:
    text = card(training_log, kid=0.02)
    lines = text.splitlines()
    assert lines[0] == "# tiny@bbbbbbbbbbbb"
    assert "**Promoted**: it replaces tiny@aaaaaaaaaaaa, because every rule holds." in text
    assert "- holds: KID x 1000: 20.0 ± 3.0, champion 50.0 ± 4.0; it must fall by more than 5.0" in lines
    assert (
        "1,200 uploaded photos, 900 of them with a title; 2 could not be read; categories left out "
        "because they have too few photos: castle (4)."
    ) in lines
    assert "| **all** | 1,000 | 100 | 100 |" in lines
    assert "At most 64,000 images, starting from the bundled model tiny@aaaaaaaaaaaa." in lines
    assert "| KID x 1000 | 20.0 ± 3.0 | 50.0 ± 4.0 | 1.0 ± 1.0 | - |" in lines
    assert "| car | 20 | 50.0 ± 1.0 | 50.0 ± 1.0 | 0.600 | 0.500 |" in lines
    assert f"]({PREVIEW})" in text


def test_the_card_of_any_other_says_why_not(training_log: Path) -> None:
    text = card(training_log, kid=0.049)
    assert (
        "**Not promoted**: tiny@aaaaaaaaaaaa stays the champion, because 1 of 4 rules does not hold." in text
    )
    assert (
        "- **does not hold**: KID x 1000: 49.0 ± 3.0, champion 50.0 ± 4.0; it must fall by more than 5.0"
        in text
    )


def test_the_curves_are_a_few_points_and_end_at_the_end(training_log: Path) -> None:
    lines = card(training_log, kid=0.02).splitlines()
    (heading,) = [line for line in lines if line.endswith("| curve |")]
    assert heading == "| | " + " | ".join(f"{count:,}" for count in range(200, 2001, 200)) + " | curve |"
    (curve,) = [line for line in lines if line.startswith("| loss of the generator")]
    assert curve.endswith(" 2.000 | 0.000 | █▇▆▆▅▄▃▃▂▁ |")
    (flat,) = [line for line in lines if line.startswith("| loss of the discriminator")]
    assert flat.endswith(" | ▁▁▁▁▁▁▁▁▁▁ |")


@pytest.mark.parametrize(("rollbacks", "times"), [(1, "once"), (3, "3 times")])
def test_a_training_that_went_back_has_curves_and_says_so(
    training_log: Path, rollbacks: int, times: str
) -> None:
    curves = [line for line in card(training_log, kid=0.02).splitlines() if line.startswith("| loss")]
    assert "went back" not in card(training_log, kid=0.02)
    lines = training_log.read_text().splitlines()
    for at in range(rollbacks):
        line = {"images_seen": 100 * at, "rolled_back": "all pictures are nearly the same", "failed_at": 400}
        lines.insert(2 * at, json.dumps(line))
    training_log.write_text("\n".join(lines) + "\n")
    text = card(training_log, kid=0.02)
    assert [line for line in text.splitlines() if line.startswith("| loss")] == curves
    assert f"went back to its last checkpoint {times}, and continued at lower learning rates." in text


def test_a_training_without_a_log_has_no_curves(tmp_path: Path) -> None:
    assert "curve" not in card(tmp_path / "none", kid=0.02)


@pytest.mark.parametrize("side", [64, 1024])
def test_the_preview_can_be_carried_along(side: int, training_log: Path) -> None:
    pixels = np.full((side // 2, side, 3), (200, 30, 30), np.uint8)
    text = with_preview(card(training_log, kid=0.02), encode(pixels, "png"))
    assert PREVIEW not in text
    data = text.partition("(data:image/webp;base64,")[2].partition(")")[0]
    shown = decode(b64decode(data))
    width = min(side, 512)
    assert shown.shape == (width // 2, width, 3)
    assert np.abs(shown.mean((0, 1)) - (200, 30, 30)).max() < 5
