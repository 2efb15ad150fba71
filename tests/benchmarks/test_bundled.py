"""What the making of the bundled models rests on; the making itself takes hours."""

import itertools
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.benchmarks import bundled
from tests.benchmarks.bundled import CONFIGS, MILESTONES, MODELS, STARTS_FROM, TRUNCATIONS, Stage, milestones
from toygan.models import network_config
from toygan.models.layers import NetworkConfig
from toygan.training.config import choose_config

WEIGHTS = {"kernel": torch.ones(2, 2), "variance": torch.full((2,), 1e-9), "batches": torch.ones(2, 2).long()}


@pytest.mark.parametrize("name", MODELS)
def test_every_stage_has_a_config_and_goes_on_from_the_one_before(name: str) -> None:
    stages = [*MODELS[name]]
    if name in STARTS_FROM:
        other, config = STARTS_FROM[name]
        count = [each.config for each in MODELS[other]].index(config) + 1
        stages = [*MODELS[other][:count], *stages]
    configs = [choose_config(each.family, file=CONFIGS / f"{each.config}.json") for each in stages]
    assert configs[-1].resolution == 128
    networks = [
        network_config(each.family, each.network_options(categories=10, text_size=384)) for each in configs
    ]
    for before, after in itertools.pairwise(networks):
        assert after.grows_from(before) or after == replace(before, **added(before, after))


def added(before: NetworkConfig, after: NetworkConfig) -> dict[str, Any]:
    """What networks may begin with in a later training."""
    there, here = asdict(before), asdict(after)
    may_begin = ("accent_colours", "colour_map", "lines", "layout_classes")
    begun = {name for name in may_begin if name in here and not there[name]}
    return {name: here[name] for name in {"shuffled_share"} & here.keys() | begun}


def test_milestones_end_with_the_training() -> None:
    assert milestones(60_000, 1.0)[-1] == 60_000
    assert milestones(60_000, 0.01)[-1] == 600
    found = milestones(6, 1.0)
    assert found == [1, 2, 3, 4, 5, 6]
    assert len(found) == MILESTONES


def test_an_interrupted_making_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands of two stages: the first is trained once, and no point of the curve is measured twice."""
    called: list[tuple[str, ...]] = []
    budget = [7]

    def toygan(*arguments: object) -> bytes:
        words = tuple(map(str, arguments))
        if not budget[0]:
            raise KeyboardInterrupt
        budget[0] -= 1
        called.append(words)
        if words[0] == "train":
            options = dict(itertools.pairwise(words))
            model = Path(options["--output"]) / "model"
            model.mkdir(parents=True, exist_ok=True)
            trained: dict[str, Any] = {"training": {"images_seen": int(options["--max-images"])}}
            (model / "config.json").write_text(json.dumps(trained))
            save_file(WEIGHTS, model / "generator.safetensors")
        return json.dumps({"overall": {"pictures": {"recall": 0.5}}}).encode()

    monkeypatch.setattr(bundled, "_toygan", toygan)
    monkeypatch.setattr(bundled, "show", lambda *arguments: None)
    monkeypatch.setattr(bundled, "figures", lambda evaluation: f"recall {evaluation['overall']['pictures']}")
    monkeypatch.setitem(TRUNCATIONS, "tried", 0.7)
    monkeypatch.setitem(MODELS, "tried", (Stage("dcgan-small", 40), Stage("dcgan-large", 600)))
    with pytest.raises(KeyboardInterrupt):
        bundled.main(["--photos", "p", "--output", str(tmp_path), "--model", "tried"])
    budget[0] = 99
    bundled.main(["--photos", "p", "--output", str(tmp_path), "--model", "tried"])
    trainings = [dict(itertools.pairwise(words)) for words in called if words[0] == "train"]
    assert [int(each["--max-images"]) for each in trainings] == [40, 100, 200, 300, 400, 500, 600]
    assert "--init" not in trainings[0]
    assert {each["--init"] for each in trainings[1:]} == {str(tmp_path / "tried" / "dcgan-small" / "model")}
    points = json.loads((tmp_path / "tried" / "curve.json").read_bytes())
    assert [each["images_seen"] for each in points] == [100, 200, 300, 400, 500, 600]
    assert [words[0] for words in called[-2:]] == ["calibrate", "evaluate"]
    assert (tmp_path / "tried" / "figures.md").read_text() == "recall {'recall': 0.5}"
    monkeypatch.setitem(MODELS, "later", (Stage("dcgan-later", 6),))
    monkeypatch.setitem(STARTS_FROM, "later", ("tried", "dcgan-small"))
    before = len(called)
    for folder in (tmp_path, tmp_path / "anew"):  # where what it goes on from is there, and where not
        bundled.main(["--photos", "p", "--output", str(folder), "--model", "later"])
    later = [dict(itertools.pairwise(words)) for words in called[before:] if words[0] == "train"]
    whole = [40, 100, 200, 300, 400, 500, 600]
    assert [int(each["--max-images"]) for each in later] == [*range(1, 7), *whole, *range(1, 7)]
    for first, folder in ((later[0], tmp_path), (later[-1], tmp_path / "anew")):
        assert first["--init"] == str(folder / "tried" / "dcgan-small" / "model")
    finished = tmp_path / "tried" / "dcgan-large" / "model" / "config.json"
    assert json.loads(finished.read_bytes())["truncation"] == 0.7
    stored = load_file(tmp_path / "tried" / "dcgan-large" / "model" / "generator.safetensors")
    assert {key: value.dtype for key, value in stored.items()} == {
        "kernel": torch.float16,
        "variance": torch.float32,
        "batches": torch.int64,
    }
    assert all(torch.equal(value.to(WEIGHTS[key].dtype), WEIGHTS[key]) for key, value in stored.items())
