"""Makes the settings of a training: from a preset, or from the last training of a model."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from toygan.artifact.config import ModelConfig
from toygan.errors import BadInput
from toygan.training.config import DETERMINED, TrainConfig, merged
from toygan.training.presets import PRESETS


def choose_config(preset: str, *, resolution: int | None = None, file: Path | None = None) -> TrainConfig:
    """Returns a preset with the changes of a JSON file, at `resolution` pixels.

    Each option in the file, also inside a group or inside `network`, replaces that option of the preset.
    `resolution` overrides both.

    Raises BadInput for an unknown preset or option (the message lists the known ones), for values that are
    unusable or do not fit the family, and for a file that is missing or holds no JSON object.
    """
    return changed_preset(preset, {} if file is None else _read_object(file), str(file), resolution)


def changed_preset(
    preset: str, changes: Mapping[str, Any], source: str, resolution: int | None = None
) -> TrainConfig:
    """Returns a preset with `changes`, which are JSON values.

    Messages call the origin of the changes `source`. Raises as `choose_config`.
    """
    from toygan.training.checks import check_config  # imports torch

    if preset not in PRESETS:
        raise BadInput(f"unknown model family or preset {preset!r}; known are {', '.join(PRESETS)}")
    return check_config(_changed(PRESETS[preset].to_json(), changes, source, resolution))


def config_of_model(
    config: ModelConfig, *, resolution: int | None = None, file: Path | None = None
) -> TrainConfig:
    """Returns the settings to train a model further: those of its last training, which are in its config.

    Networks and conditions are those of the model. The precision is chosen again, because it depends on the
    device. If the config has no settings, the preset of its family is taken. `resolution` and the options in
    the JSON `file` override all these. Raises BadInput for a family that cannot be trained, and for unusable
    values.
    """
    from toygan.training.checks import check_config  # imports torch

    family = config.family
    if family not in PRESETS:
        raise BadInput(f"the family {family!r} cannot be trained; known are {', '.join(PRESETS)}")
    settings = config.training.get("settings", {})
    own = {
        "resolution": config.resolution,
        "conditions": {
            "accent_colours": config.networks.accent_colours,
            "layout_bank": config.layout_bank or 0.0,
        },
        "optimizer": {"precision": "auto"},
    }
    values = merged(merged(PRESETS[family].to_json(), settings), own)
    networks = asdict(config.networks)
    values["network"] = {name: value for name, value in networks.items() if name not in DETERMINED}
    return check_config(_changed(values, {} if file is None else _read_object(file), str(file), resolution))


def _changed(
    values: Mapping[str, Any], changes: Mapping[str, Any], source: str, resolution: int | None
) -> TrainConfig:
    changed = merged(values, changes)
    if changed["family"] != values["family"]:
        raise BadInput(
            f"{source} is a config of {changed['family']!r}, but {values['family']!r} is to be trained"
        )
    if resolution is not None:
        changed["resolution"] = resolution
    return TrainConfig.from_json(changed)


def _read_object(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"the config {file} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise BadInput(f"the config {file} must hold a JSON object, not a {type(values).__name__}")
    return values
