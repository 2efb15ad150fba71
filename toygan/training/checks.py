"""Checks the options and photos of a training before it takes hours."""

from collections.abc import Sequence

from toygan.artifact.files import ModelFiles
from toygan.data.photos import PhotoSet
from toygan.errors import BadInput
from toygan.models import enlarges, image_condition, network_config
from toygan.models.enhancer import EnhancerConfig
from toygan.training.config import TrainConfig
from toygan.training.distributed import Distributed


def learns_layouts(config: TrainConfig) -> bool:
    """Returns whether the networks learn to generate layouts from sketches; photos then need both."""
    return image_condition(config.family) == "sketch" and bool(config.network.get("layout_classes"))


def check_options(
    config: TrainConfig,
    max_images: int | None,
    max_minutes: float | None,
    first_stages: Sequence[ModelFiles],
) -> None:
    """Raises BadInput for options that do not fit together. Needs no photos."""
    try:
        networks = network_config(config.family, config.network_options(categories=1))
    except ValueError as error:
        raise BadInput(str(error)) from error
    if isinstance(networks, EnhancerConfig):
        if config.crop > config.resolution or config.crop % networks.scale:
            raise BadInput(
                f"crop is {config.crop}; it must be a multiple of {networks.scale}, "
                f"{config.resolution} at most"
            )
    elif first_stages:
        raise BadInput(f"first stages are for enhancers; {config.family} draws by itself")
    if config.layout_bank and image_condition(config.family) != "layout":
        raise BadInput(f"layout_bank is {config.layout_bank}; {config.family} draws from no layouts")
    if config.prior_share and not (config.kl_weight or learns_layouts(config)):
        raise BadInput(
            f"prior_share is {config.prior_share}; it needs a kl_weight above 0, or networks that draw "
            "layouts: without these all pictures are drawn as generation draws them"
        )
    for name, value in (("max_images", max_images), ("max_minutes", max_minutes)):
        if value is not None and not value >= 0:
            raise BadInput(f"{name} is {value}; it must not be below 0")


def check_share(config: TrainConfig, distributed: Distributed) -> None:
    if config.batch_size % distributed.count:
        raise BadInput(
            f"a batch of {config.batch_size} cannot be shared by {distributed.count} processes; give a "
            f"batch_size that {distributed.count} divides"
        )


def check_colours(config: TrainConfig, photos: PhotoSet) -> None:
    """Raises BadInput if the photos do not give the colours that the networks need."""
    if config.accent_colours and not photos.text_config.colour_names.hexes:
        raise BadInput(
            f"accent_colours is {config.accent_colours}, but no photo says what its main colour is called; "
            "give shards with colour and colour_hex, or leave it at 0"
        )
    paints = config.network.get("colour_map") or learns_layouts(config)
    if paints and photos.labelled_colours is None:
        raise BadInput(
            "colours are to be found on layouts, but no photo with a main colour has a layout of one label; "
            "give shards with colour_hex, or leave colour_map at false (spade) or layout_classes at 0 "
            "(pix2pix)"
        )


def check_labels(config: TrainConfig, photos: PhotoSet) -> None:
    """Raises BadInput if a layout has a label that is no class of the networks."""
    is_labelled = photos.image_condition == "layout" and not enlarges(config.family)
    if not is_labelled or photos.condition_images is None:
        return
    network = network_config(config.family, config.network_options(categories=1))
    classes, highest = getattr(network, "layout_classes", 0), int(photos.condition_images.max())
    if highest >= classes:
        raise BadInput(
            f"the layouts hold the label {highest}, but layout_classes is {classes}; give at least "
            f"{highest + 1} in the config's network"
        )
