"""Checks the settings and photos of a training before it takes hours."""

from collections.abc import Sequence

from toygan.artifact.files import ModelFiles
from toygan.data.photos import PhotoSet
from toygan.errors import BadInput
from toygan.models import build_networks
from toygan.models.layers import NetworkConfig
from toygan.models.shapes import shapes_alone
from toygan.training.config import TrainConfig
from toygan.training.distributed import Distributed
from toygan.training.losses import LEAST_DETAIL_SIDE


def check_config(config: TrainConfig) -> TrainConfig:
    """Returns the config if its family can use all settings. Every function that makes a config calls it.

    Otherwise it raises BadInput, which names the setting and the remedy.
    """
    try:
        networks = config.networks()
        with shapes_alone():
            build_networks(config.family, networks)
    except ValueError as error:
        raise BadInput(str(error)) from error
    if networks.needs_small_picture:
        _check_crop(config.data.crop, networks)
    side = config.data.crop if networks.needs_small_picture else networks.resolution
    for option in ("detail_weight", "detail_energy_weight"):
        weight: float = getattr(config.objective, option)
        if weight and side < LEAST_DETAIL_SIDE:
            raise BadInput(
                f"{option} is {weight}; it needs pictures or crops of at least {LEAST_DETAIL_SIDE} pixels a "
                f"side, but they have {side}; leave it at 0"
            )
    ramp = config.data.augmentation_ramp_images
    if ramp and (networks.needs_small_picture or networks.image_condition == "photo"):
        raise BadInput(
            f"augmentation_ramp_images is {ramp}; {config.family} augments no pictures, leave it at 0"
        )
    bank, prior_share = config.conditions.layout_bank, config.data.prior_share
    if bank and networks.image_condition != "layout":
        raise BadInput(
            f"layout_bank is {bank}; {config.family} does not generate from layouts, so leave it at 0"
        )
    if prior_share and not (config.objective.kl_weight or networks.predicts_layouts):
        raise BadInput(
            f"prior_share is {prior_share}; it needs a kl_weight above 0, or networks that predict layouts. "
            "Without either, all latents are random in any case"
        )
    possible = {
        "path_length_weight": (networks.has_styles, "styles"),
        "kl_weight": (networks.style_encoder, "style encoder"),
        "feature_matching_weight": (networks.has_features, "features to match"),
        "structure_weight": (networks.image_condition == "photo", "masks of products"),
        "ground_weight": (networks.image_condition == "photo", "masks of products"),
    }
    for name, (is_possible, missing) in possible.items():
        weight = getattr(config.objective, name)
        if weight and not is_possible:
            raise BadInput(f"{name} is {weight}; {config.family} has no {missing}, so leave it at 0")
    return config


def _check_crop(crop: int, networks: NetworkConfig) -> None:
    scale = networks.resolution // networks.small_resolution
    if crop > networks.resolution or crop % scale:
        raise BadInput(f"crop is {crop}; it must be a multiple of {scale} and at most {networks.resolution}")


def check_first_stages(config: TrainConfig, first_stages: Sequence[ModelFiles]) -> None:
    if first_stages and not config.networks().needs_small_picture:
        raise BadInput(f"only enhancers have first stages; the family {config.family} has none")


def check_share(config: TrainConfig, distributed: Distributed) -> None:
    if config.data.batch_size % distributed.count:
        raise BadInput(
            f"a batch of {config.data.batch_size} cannot be shared by {distributed.count} processes; give a "
            f"batch_size that is a multiple of {distributed.count}"
        )


def check_photos(config: TrainConfig, photos: PhotoSet) -> None:
    """Raises BadInput if the photos do not give the colours and labels that the networks need."""
    accents = config.conditions.accent_colours
    if accents and not photos.text_config.colour_names.hexes:
        raise BadInput(
            f"accent_colours is {accents}, but no photo names its main colour; "
            "give shards with colour and colour_hex, or leave accent_colours at 0"
        )
    networks = config.networks()
    if (networks.colour_map or networks.predicts_layouts) and photos.labelled_colours is None:
        raise BadInput(
            "the networks need the labels of colours, but no photo with a main colour has a layout of one "
            "label; give shards with colour_hex, or leave colour_map at false (spade) or layout_classes at 0 "
            "(pix2pix)"
        )
    _check_labels(networks, photos)


def _check_labels(networks: NetworkConfig, photos: PhotoSet) -> None:
    """Raises BadInput if a layout has a label that the networks do not know."""
    is_labelled = photos.image_condition == "layout" and not networks.needs_small_picture
    if not is_labelled or photos.condition_images is None:
        return
    classes, highest = networks.layout_classes, int(photos.condition_images.max())
    if highest >= classes:
        raise BadInput(
            f"the layouts hold the label {highest}, but layout_classes is {classes}; set it to at least "
            f"{highest + 1} in the config's network"
        )
