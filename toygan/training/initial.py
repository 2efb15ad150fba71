"""Fine-tuning: a training starts from the weights of a model instead of random ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from safetensors.torch import load
from torch import Tensor, nn

from toygan.artifact.config import ModelConfig
from toygan.artifact.files import CONFIG, ModelFiles
from toygan.artifact.layout_bank import LayoutBank
from toygan.artifact.layout_predictor import LayoutPredictor
from toygan.artifact.parts import (
    load_layout_bank,
    load_layout_predictor,
    load_mask_network,
    load_text_bank,
)
from toygan.artifact.product_finder import ProductFinder
from toygan.artifact.weights import load_weights
from toygan.conditions.condition_types import BACKGROUND
from toygan.conditions.image import Drawing
from toygan.conditions.labelled_colours import LabelledColours
from toygan.conditions.text import TextEncoder
from toygan.conditions.text_bank import TextBank
from toygan.conditions.text_config import TextConfig
from toygan.errors import ModelError
from toygan.models.colour_map import ColourMap
from toygan.models.layers import (
    ConditionalDiscriminator,
    ConditionalGenerator,
    ConditionInput,
    NetworkConfig,
    Sections,
)
from toygan.models.mask_network import MaskNetwork
from toygan.training.config import TrainConfig

_MAY_DIFFER = {"categories", "text_size", "shuffled_share"}
_MAY_BEGIN = {
    "accent_colours",
    "colour_map",
    "lines",
    "layout_classes",
    "deep_head",
}  # options of the training or of the model, not of the shape of the networks


@dataclass(frozen=True, kw_only=True)
class InitialModel:
    """The model from which a training starts: its networks, and the settings and files that belong to their
    conditions.
    """

    name: str  # NAME@VERSION
    resolution: int  # the side of its pictures in pixels
    categories: tuple[str, ...]
    text_encoder: Mapping[str, str] | None  # see TextEncoder.to_json
    text_config: TextConfig
    generator: ConditionalGenerator
    discriminator: ConditionalDiscriminator
    known: TextBank | None = None  # the text bank of the model
    layout_bank: LayoutBank | None = None  # the layouts that the model generates from
    layout_predictor: LayoutPredictor | None = None  # predicts layouts of photos without one
    # finds the product in snapshots; None if the model needs no snapshots
    mask_network: MaskNetwork | None = None
    grows: bool = False  # whether the training has a higher resolution than the model

    @property
    def drawing_predictor(self) -> Callable[[Tensor], Drawing] | None:
        """Predicts the layouts and lines of photos of any size; None without a layout predictor."""
        return None if self.layout_predictor is None else self.layout_predictor.at(self.resolution)

    @property
    def product_finder(self) -> ProductFinder | None:
        """Frames the snapshots of training photos; None if the model needs no snapshots."""
        if self.mask_network is None:
            return None
        return ProductFinder(network=self.mask_network, device=torch.device("cpu"))

    @property
    def labelled_colours(self) -> LabelledColours | None:
        """The colours whose layout labels the model knows; None if the model has no colour map."""
        for module in self.generator.modules():
            if isinstance(module, ColourMap):
                taken = module.labels != BACKGROUND
                labels: list[int] = module.labels[taken].tolist()
                return (
                    LabelledColours(colours=module.colours[taken], labels=tuple(labels)) if labels else None
                )
        return None

    def has_same_text_as(self, text_config: TextConfig, encoder: TextEncoder | None) -> bool:
        """Returns whether `text_config` and `encoder` give a title the same embedding as this model."""
        texts = None if encoder is None else encoder.to_json()
        return self.text_encoder == texts and self.text_config.has_same_text_as(text_config)

    @torch.no_grad()
    def load_pretrained(
        self,
        networks: Mapping[str, nn.Module],
        categories: Sequence[str],
        text_encoder: Mapping[str, str] | None,
    ) -> None:
        """Writes the model's weights into `networks`. Their names are generator, discriminator and ema.

        - A category takes the weights of the model's category of the same name. A new category starts with
          the mean over the model's categories.
        - Weights of texts are kept if the text encoder is the same. Otherwise they start at 0, so that texts
          have no influence at first.
        - Weights of accent colours are kept. If the model has no such weights, they start at 0 or at random
          values.
        """
        index = {name: position for position, name in enumerate(self.categories)}
        rows = [index.get(name) for name in categories]
        is_same_text = text_encoder == self.text_encoder
        for name, network in networks.items():
            old = self.discriminator if name == "discriminator" else self.generator
            wanted = _sections(network)
            given, known, fresh = old.state_dict(), _sections(old), _state(network)
            for key in wanted.keys() | known.keys():
                was = _cut(given.pop(key, None), known.get(key))
                if key in wanted:
                    given[key] = _fitted(wanted[key], was, fresh[key], rows, is_same_text)
            given = _with_new_parts(network, old, given)
            if self.grows:
                given = _grown(network, given, is_generator=name != "discriminator")
            load_weights(network, given)


def read_initial(source: ModelFiles, config: TrainConfig) -> InitialModel:
    """Reads the model that a training with `config` starts from.

    Raises ModelError, which names the model, if the model is damaged or has another family, resolution or
    network shape. A higher resolution of the training is allowed if the networks can grow.
    """
    name = f"{source.name}@{source.version}"
    stored = ModelConfig.from_json(source.files[CONFIG], f"{CONFIG} of the model {name}")
    if stored.family != config.family:
        raise ModelError(
            f"the model {name} is of the family {stored.family}, but {config.family} is to be trained; give "
            f"--family {stored.family}, or another model"
        )
    grows = _check_shape(name, stored.networks, config)
    with torch.random.fork_rng(devices=[]):
        generator, discriminator = stored.build()
    for network, file in ((generator, "generator"), (discriminator, "discriminator")):
        try:
            load_weights(network, load(source.files[f"{file}.safetensors"]))
        except ModelError as error:
            raise ModelError(f"{file}.safetensors of the model {name}: {error}") from None
    return InitialModel(
        name=name,
        resolution=stored.resolution,
        categories=stored.categories,
        text_encoder=stored.text_encoder,
        text_config=stored.text,
        generator=generator,
        discriminator=discriminator,
        known=load_text_bank(name, source.files, stored),
        layout_bank=load_layout_bank(name, source.files, stored),
        layout_predictor=load_layout_predictor(name, source.files, stored),
        mask_network=load_mask_network(name, source.files, stored),
        grows=grows,
    )


def _check_shape(name: str, old: NetworkConfig, config: TrainConfig) -> bool:
    """Returns whether the networks grow to a higher resolution.

    Raises ModelError if their shapes differ in another way.
    """
    new = config.networks(categories=old.categories, text_size=old.text_size)
    if new.grows_from(old):
        return True
    there, here = asdict(old), asdict(new)
    differing = [
        f"{option} is {there[option]} in the model, but {here[option]} in the settings"
        for option in here
        if option not in _MAY_DIFFER
        and there[option] != here[option]
        and not (option in _MAY_BEGIN and not (there[option] and here[option]))
    ]
    if differing:
        raise ModelError(
            f"the model {name} has networks of another shape: {', '.join(differing)}; train at the same "
            "resolution and with the same options, by --resolution and --config"
        )
    return False


def _grown(network: nn.Module, given: Mapping[str, Tensor], *, is_generator: bool) -> dict[str, Tensor]:
    """Returns the state of a network of a higher resolution, with all fitting weights of the smaller network.

    Generator blocks are numbered from 4 x 4 pixels up, so blocks of the same side have the same name. Layers
    next to the pictures, and the whole discriminator, start with fresh weights.
    """
    fresh = network.state_dict()
    if not is_generator:
        return fresh
    fits = {key: value for key, value in given.items() if key in fresh and fresh[key].shape == value.shape}
    return {**fresh, **fits}


def _with_new_parts(network: nn.Module, old: nn.Module, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights `given` with the parts that may be new (`may_be_new`) adapted to `network`.

    If such a part is missing in `given` or has another shape there, it is taken from `network`. If only the
    network `old` has it, it is removed.
    """
    begins = tuple({each for one in (network, old) for each in getattr(one, "may_be_new", ())})
    fresh = network.state_dict()

    def fits(key: str, value: Tensor) -> bool:
        return key in fresh and fresh[key].shape == value.shape

    kept = {key: value for key, value in given.items() if not key.startswith(begins) or fits(key, value)}
    new = {key: value for key, value in fresh.items() if key.startswith(begins) and key not in kept}
    return {**kept, **new}


def _state(network: nn.Module) -> dict[str, Tensor]:
    """Returns parameters and buffers by their names in the network's state."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _sections(network: nn.Module) -> dict[str, Sections]:
    """Returns the sections of all weights with sections, by the weights' names in the state."""
    return {
        f"{prefix}.{name}" if prefix else name: sections
        for prefix, layer in network.named_modules()
        if isinstance(layer, ConditionInput)
        for name, sections in layer.sections().items()
    }


def _cut(weight: Tensor | None, sections: Sections | None) -> dict[str, Tensor]:
    """Returns the parts of a weight by section; without a weight, returns no parts."""
    if weight is None or sections is None:
        return {}
    parts = torch.split(weight, list(sections.counts.values()), dim=sections.dim)
    return dict(zip(sections.counts, parts, strict=True))


def _fitted(
    sections: Sections,
    was: Mapping[str, Tensor],
    fresh: Tensor,
    rows: Sequence[int | None],
    is_same_text: bool,
) -> Tensor:
    """Returns the weight `fresh`, with the sections that the old weight has, too, taken from the old weight
    (`was`).
    """
    parts = _cut(fresh.detach().cpu(), sections)
    for name, part in parts.items():
        if name == "text":
            if is_same_text and "text" in was:
                parts[name] = was["text"]
            # a buffer has been computed from the new texts, so it stays
            elif isinstance(fresh, nn.Parameter):
                parts[name] = torch.zeros_like(part)
        elif name in ("accents", "colour_map", "lines", "layout"):
            # New layers keep their random weights; new columns of an old layer start at 0.
            there = was.get(name, part)
            if isinstance(fresh, nn.Parameter):  # a buffer has been computed from the new photos, so it stays
                parts[name] = there if there.shape == part.shape else torch.zeros_like(part)
        elif name == "category":
            old = was["category"].unbind(sections.dim)
            mean = was["category"].mean(sections.dim)
            parts[name] = torch.stack([mean if row is None else old[row] for row in rows], dim=sections.dim)
        else:
            parts[name] = was[name]
    return torch.cat(list(parts.values()), dim=sections.dim)
