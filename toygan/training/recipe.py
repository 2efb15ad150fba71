"""Recipes: the trainings of a model, one after the other, in a TOML file.

    family = "spade"               # or the name of a preset
    start = { recipe = "toybricks-layout128", stage = "coloured" }   # optional, see below
    first_stages = []              # for an enhancer: the models whose pictures it learns to enlarge
    truncation = 0.2               # of the latents, 0 to 1; below 1 trades variety for typical pictures
    acceptance = 0.97              # share of the pictures that the thresholds of the calibration accept
    probe = true                   # a probe scores the pictures instead of the discriminator
    [settings]                     # changes of the preset for all stages, in groups as in `TrainConfig`
    [[stages]]                     # each stage starts from the weights of the stage before it
    name = "lines"
    images = 62_000                # length of the stage
    settings.data = { batch_size = 32 }   # changes for this stage

With `start`, the stages of the other recipe, up to and including the named stage, are put before the stages
of this recipe and are trained, too. `toygan.training.run_recipe` runs recipes.
"""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from toygan.errors import BadInput
from toygan.options import from_options
from toygan.training.choose import changed_preset
from toygan.training.config import TrainConfig, merged

_SUFFIX = ".toml"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One training of a recipe."""

    name: str
    images: int
    config: TrainConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All trainings of a model, and the settings of the steps after them."""

    name: str
    stages: tuple[Stage, ...]
    first_stages: tuple[str, ...]  # the names of an enhancer's first stages
    truncation: float
    acceptance: float
    probe: bool


@dataclass(frozen=True, kw_only=True)
class _Start:
    recipe: str
    stage: str


@dataclass(frozen=True, kw_only=True)
class _StageOptions:
    name: str
    images: int
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name or not all(letter.isalnum() or letter == "-" for letter in self.name):
            raise ValueError(f"name is {self.name!r}; it may contain only letters, digits and -")
        if self.images < 1:
            raise ValueError(f"images is {self.images}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class _RecipeOptions:
    family: str
    stages: list[dict[str, Any]]
    settings: dict[str, Any] = field(default_factory=dict)
    start: _Start | None = None
    first_stages: tuple[str, ...] = ()
    truncation: float = 1.0
    acceptance: float = 0.5
    probe: bool = False

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("stages is empty; give at least one stage")
        if not 0 <= self.truncation <= 1:
            raise ValueError(f"truncation is {self.truncation}; it must lie from 0 to 1")
        if not 0 < self.acceptance <= 1:
            raise ValueError(f"acceptance is {self.acceptance}; it must lie above 0 and be at most 1")


def recipe_names() -> list[str]:
    """Returns the names of the recipes that come with the package."""
    return sorted(each.name.removesuffix(_SUFFIX) for each in _folder().iterdir() if _is_recipe(each))


def read_recipe(name: str) -> Recipe:
    """Reads a recipe. `name` is the name of a recipe in the package, or the path of a TOML file.

    Raises BadInput for an unknown name; the message lists the known names. Also raises BadInput for a file
    that cannot be read, or that has unknown options or unusable values; the message names recipe and stage.
    """
    text, name = _read(name)
    try:
        values = json.loads(json.dumps(tomllib.loads(text), default=str))
        options = from_options(_RecipeOptions, values, owner=f"the recipe {name}")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInput(f"the recipe {name} cannot be read: {error}") from error
    except ValueError as error:
        raise BadInput(str(error)) from error
    stages = () if options.start is None else _stages_before(options.start, name)
    stages += tuple(_stage(each, options, name) for each in options.stages)
    names = [each.name for each in stages]
    if twice := sorted({each for each in names if names.count(each) > 1}):
        raise BadInput(f"the recipe {name} has several stages with the name {', '.join(twice)}")
    return Recipe(
        name=name,
        stages=stages,
        first_stages=options.first_stages,
        truncation=options.truncation,
        acceptance=options.acceptance,
        probe=options.probe,
    )


def _stages_before(start: _Start, name: str) -> tuple[Stage, ...]:
    if start.recipe == name:
        raise BadInput(f"the recipe {name} starts from itself")
    stages = read_recipe(start.recipe).stages
    names = [each.name for each in stages]
    if start.stage not in names:
        raise BadInput(
            f"the recipe {name} starts from the stage {start.stage!r} of {start.recipe}, which has only the "
            f"stages {', '.join(names)}"
        )
    return stages[: names.index(start.stage) + 1]


def _stage(values: Mapping[str, Any], options: _RecipeOptions, name: str) -> Stage:
    owner = f"the recipe {name}, stage {values.get('name')!r}"
    try:
        stage = from_options(_StageOptions, values, owner=owner)
    except ValueError as error:
        raise BadInput(str(error)) from error
    try:
        config = changed_preset(options.family, merged(options.settings, stage.settings), owner)
    except BadInput as error:
        raise BadInput(f"{owner}: {error}") from error
    return Stage(name=stage.name, images=stage.images, config=config)


def _read(name: str) -> tuple[str, str]:
    """Returns the content of a recipe and its name."""
    try:
        if name.endswith(_SUFFIX):
            return Path(name).read_text(encoding="utf-8"), Path(name).stem
        if name in recipe_names():
            return (_folder() / f"{name}{_SUFFIX}").read_text(encoding="utf-8"), name
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the recipe {name} cannot be read: {error}") from error
    raise BadInput(
        f"there is no recipe {name!r}; known are {', '.join(recipe_names())}, and files ending in {_SUFFIX}"
    )


def _folder() -> Traversable:
    return resources.files("toygan.training") / "recipes"


def _is_recipe(file: Traversable) -> bool:
    return file.name.endswith(_SUFFIX)
