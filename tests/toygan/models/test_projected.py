from collections.abc import Mapping
from dataclasses import replace
from math import log, prod, sqrt
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.toygan.models.alike import (
    check_that_bf16_keeps_more_than_eight_bits,
    check_that_the_generator_follows,
)
from tests.toygan.training.tiny import changed, tiny
from toygan.images import from_uint8
from toygan.models import dcgan, projected
from toygan.models.backbone import create_backbone
from toygan.models.dcgan import DcganConfig
from toygan.models.projected import Discriminator, Excitation, Generator, Head, ProjectedConfig, build
from toygan.training.batches import sample_batch, step_rng
from toygan.training.config import TrainConfig
from toygan.training.state import TrainState, start
from toygan.training.step import train_step

BACKBONE = "test_efficientnet"  # 24, 32, 48 and 64 channels, 82,300 parameters
TINY = ProjectedConfig(
    categories=3,
    resolution=32,
    latent_size=8,
    condition_size=4,
    generator_channels=2,
    discriminator_channels=4,
    max_channels=8,
    backbone=BACKBONE,
    backbone_resolution=32,
)


def networks(config: ProjectedConfig = TINY) -> tuple[Generator, Discriminator]:
    torch.manual_seed(0)
    return build(config)


def conditions(batch: int, *, category: int = 0, lightness: float = 0.0) -> dict[str, Tensor]:
    return {
        "category": torch.full((batch,), category),
        "colour": torch.tensor([[lightness, 0.3, -0.3, 1.0]]).repeat(batch, 1),
    }


def parameters(*modules: nn.Module) -> int:
    return sum(prod(each.shape) for module in modules for each in module.parameters() if each.requires_grad)


def test_parameters_of_the_default_generator() -> None:
    """DCGAN's, and the gates: widths from 4 x 4 up are 256, 192, 96, 48, 24.

    4 to 32    squeeze 16 * 256 -> 48, excite 48 -> 48    196,656 + 2,352    = 199,008
    8 to 64    squeeze 16 * 192 -> 24, excite 24 -> 24    73,752 + 600       =  74,352
    """
    generator = Generator(ProjectedConfig(categories=10, backbone=BACKBONE))
    plain = dcgan.Generator(DcganConfig(categories=10))
    assert parameters(generator) == parameters(plain) + 199_008 + 74_352


def test_parameters_of_a_small_discriminator() -> None:
    """Maps of 8, 4, 2 and 1 pixels a side: only the first is halved. Beside them DCGAN's discriminator.

    embedding  3 categories x 4, and two linear maps 4 -> 4           12 + 2 * (4 * 4 + 4)     =    52
    ends       norm 2 * 64, logit 64 + 1, projection 4 * 64 + 64      128 + 65 + 320, 4 times  =   2,052
    halving    4 x 4, 24 -> 64, and norm                              24,576 + 128             =  24,704
    last       3 x 3, 64, 32, 48 and 64 -> 64                         576 * (64 + 32 + 48 + 64) = 119,808
    """
    _, discriminator = networks()
    assert isinstance(discriminator.of_pixels, dcgan.Discriminator)
    assert parameters(discriminator) - parameters(discriminator.of_pixels) == 52 + 2_052 + 24_704 + 119_808
    assert sum(prod(each.shape) for each in discriminator.backbone.parameters()) == 82_300
    # 1 x 1 across channels, 3 x 3 across scales; no parameters, so that no optimizer can see them.
    mixers = [*discriminator.channel_mixers, *discriminator.scale_mixers]
    assert [each.weight.numel() for each in mixers] == [
        *(24**2, 32**2, 48**2, 64**2),
        *(9 * 24 * 32, 9 * 32 * 48, 9 * 48 * 64),
    ]
    assert parameters(*mixers) == 0


@pytest.mark.parametrize("resolution", [32, 64, 128, 256])
def test_shapes(resolution: int) -> None:
    config = replace(TINY, resolution=resolution, backbone_resolution=64)
    generator, discriminator = networks(config)
    with torch.inference_mode():
        images = generator(torch.randn(2, 8), conditions(2))
        output = discriminator.forward_with_features(images, conditions(2))
    assert images.shape == (2, 3, resolution, resolution)
    assert images.dtype == torch.float32
    coarsest = max(resolution, 64) // 32  # pixels of the last map
    sides = [4, 4, 4, min(4, coarsest)]
    assert [each.shape for each in output.logits] == [(2,), *((2, side, side) for side in sides)]


def test_1024_pixels_build() -> None:
    generator, discriminator = build(replace(TINY, resolution=1024))
    assert len(generator.excitations) == 8 + 1 - 3  # maps of 4 to 1,024 pixels, all but three of them gated
    assert len(discriminator.heads[0].layers) == 3 * (6 + 1)  # 256 pixels halved six times, and the last


def test_excitation_is_the_gate_of_the_paper() -> None:
    """Fine maps times sigmoid(what the coarse ones say); weights are chosen so that it is their sum."""
    layer = Excitation(1, 1)
    with torch.no_grad():
        layer.squeeze.weight.fill_(1)
        layer.excite.weight.fill_(1)
        for each in (layer.squeeze, layer.excite):
            each.bias.zero_()
    coarse = torch.full((1, 1, 8, 8), log(3) / 16)  # 4 x 4 means sum up to log 3; sigmoid(log 3) = 3 / 4
    fine = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(layer(fine, coarse), 0.75 * fine)


def test_maps_gate_those_of_eight_times_their_side() -> None:
    generator = Generator(replace(TINY, resolution=64))
    maps = [torch.rand(2, width, 4 * 2**block, 4 * 2**block) for block, width in enumerate((8, 8, 8, 4, 2))]
    assert generator.refine(maps[2], maps[:2]) is maps[2]  # 16 pixels: no map of 2 pixels is there
    for block, excitation in ((3, generator.excitations[0]), (4, generator.excitations[1])):
        refined = generator.refine(maps[block], maps[:block])
        assert torch.equal(refined, excitation(maps[block], maps[block - 3]))


def test_what_comes_back_to_the_picture_is_not_rounded_to_eight_bits() -> None:
    """Under bfloat16 the frozen network sees pictures in it, unless they want a gradient."""
    _, discriminator = networks()
    images = torch.rand(2, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        shown = discriminator.backbone(images)
        assert {each.dtype for each in shown} == {torch.bfloat16}
        watched = discriminator.project(images.requires_grad_(True))
        rounded = discriminator.project(images.detach())
    exact = discriminator.project(images)
    assert errors_of(watched, exact) < errors_of(rounded, exact) / 2


def errors_of(maps: list[Tensor], exact: list[Tensor]) -> float:
    return sum((one - other).square().mean().item() for one, other in zip(maps, exact, strict=True)) ** 0.5


def test_maps_are_scaled_by_their_size_and_mixed_from_coarse_to_fine() -> None:
    """With channels left as they are, and only the coarsest map handed down by its first channel:

    the coarsest is a map of mean square 1; the next is (its own map + that channel) / sqrt(2); and the one
    after that takes nothing, which leaves 1 / sqrt(2) of its own map.
    """
    _, discriminator = networks()
    for mixer in discriminator.channel_mixers:
        mixer.weight.copy_(torch.eye(len(mixer.weight))[:, :, None, None])
    for mixer in discriminator.scale_mixers:
        mixer.weight.zero_()
    discriminator.scale_mixers[-1].weight[:, 0, 1, 1] = 1  # the kernels' middle
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    own = discriminator.backbone(images)
    scaled = [each / (each.square().mean((1, 2, 3), keepdim=True) + 1e-8).sqrt() for each in own]
    mixed = discriminator.project(images)
    torch.testing.assert_close(mixed[3], scaled[3])
    torch.testing.assert_close(mixed[3].square().mean((1, 2, 3)), torch.ones(2), rtol=0, atol=1e-3)
    torch.testing.assert_close(mixed[2], (scaled[2] + scaled[3][:, :1]) / sqrt(2))
    torch.testing.assert_close(mixed[1], scaled[1] / sqrt(2))
    torch.testing.assert_close(mixed[0], scaled[0] / sqrt(2))


def test_small_pictures_are_enlarged_for_the_backbone() -> None:
    _, discriminator = networks(replace(TINY, backbone_resolution=64))
    images = torch.rand(1, 3, 32, 32)
    enlarged = F.interpolate(images, scale_factor=2, mode="bilinear")
    assert [each.shape[2] for each in discriminator.project(images)] == [16, 8, 4, 2]
    for small, large in zip(discriminator.project(images), discriminator.project(enlarged), strict=True):
        torch.testing.assert_close(small, large)


def test_a_head_projects_the_condition_onto_every_place() -> None:
    head = Head(24, 8, TINY.condition_size).eval()
    nn.init.normal_(head.projection.weight)
    x, condition = torch.randn(2, 24, 8, 8), torch.randn(2, 4)
    features, projected = head.layers(x), head.projection(condition)
    expected = head.logit(features)[:, 0] + torch.einsum("bchw,bc->bhw", features, projected) / 8
    torch.testing.assert_close(head(x, condition), expected)


def test_the_frozen_part_depends_on_the_seed_only() -> None:
    (_, first), (_, again) = networks(), networks()
    images = torch.rand(2, 3, 32, 32)
    for one, other in zip(first.project(images), again.project(images), strict=True):
        assert torch.equal(one, other)
    torch.manual_seed(1)
    assert not torch.equal(build(TINY)[1].project(images)[0], first.project(images)[0])


def test_under_bf16_the_picture_keeps_more_than_eight_bits() -> None:
    generator, discriminator = networks()
    check_that_bf16_keeps_more_than_eight_bits(generator, discriminator, torch.randn(4, 8), conditions(4))


def test_the_generator_follows_category_colour_and_latents() -> None:
    generator, _ = networks()
    others = [conditions(1, category=1), conditions(1, lightness=0.8)]
    check_that_the_generator_follows(generator, torch.randn(1, 8), conditions(1), others, least=1e-4)


def test_every_weight_gets_a_gradient_and_the_frozen_part_none() -> None:
    generator, discriminator = networks()
    for forward_with_features in (discriminator.of_pixels, *discriminator.heads):
        nn.init.normal_(forward_with_features.projection.weight)
    discriminator.train().requires_grad_(False).requires_grad_(True)
    discriminator(generator(torch.randn(4, 8), conditions(4)), conditions(4)).square().sum().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            if name.startswith("backbone."):
                assert parameter.grad is None
                assert not parameter.requires_grad
            elif "embedding.category" not in name:  # of which one row is used
                assert parameter.grad is not None, name
                assert parameter.grad.isfinite().all()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the tiny backbone as a user would bring them."""
    torch.manual_seed(5)
    file = tmp_path_factory.mktemp("backbone") / "weights.safetensors"
    save_file(create_backbone(BACKBONE).network.state_dict(), file)
    return file


def training(weights: Path, **changes: Any) -> TrainConfig:
    options = {name: value for name, value in vars(TINY).items() if name not in ("categories", "resolution")}
    del options["text_size"], options["accent_colours"]
    network = options | {"backbone_weights": str(weights), "backbone_resolution": 64}
    return tiny(**{"family": "projected", "network": network, "batch_size": 8, "precision": "fp32"} | changes)


def train(state: TrainState, photos: Any, config: TrainConfig, steps: int) -> list[float]:
    """Returns the discriminator's losses."""
    losses = []
    for step in range(steps):
        rng = step_rng(0, step)
        rows = torch.arange(config.data.batch_size) % len(photos)
        batch = sample_batch(photos, rows, config, state.generator.latent_size, rng)
        losses.append(float(train_step(state, batch, config, rng)[1]))
        state.images_seen += config.data.batch_size
    return losses


def frozen(discriminator: nn.Module) -> Mapping[str, Tensor]:
    parts = ("backbone.", "channel_mixers.", "scale_mixers.")
    return {
        name: value.clone() for name, value in discriminator.state_dict().items() if name.startswith(parts)
    }


def test_training_changes_the_heads_and_leaves_the_frozen_part(photos: Any, weights: Path) -> None:
    config = training(weights)
    state = start(config, categories=2, device=torch.device("cpu"))
    before, heads = frozen(state.discriminator), [each.clone() for each in parameters_of_heads(state)]
    torch.manual_seed(5)
    given = create_backbone(BACKBONE).network.state_dict()
    assert all(torch.equal(before[f"backbone.network.{name}"], value) for name, value in given.items())
    train(state, photos, config, 3)
    after = frozen(state.discriminator)
    assert len(after) == len(before) == 80 + 2 + 4 + 3
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(torch.equal(old, new) for old, new in zip(heads, parameters_of_heads(state), strict=True))


def parameters_of_heads(state: TrainState) -> list[Tensor]:
    heads = state.discriminator.get_submodule("heads")
    return [each for name, each in heads.named_parameters() if "layers" in name and each.ndim == 4]


@pytest.mark.slow
def test_in_evaluation_a_score_does_not_depend_on_batch_mates(photos: Any, weights: Path) -> None:
    """Batch normalisation then keeps to the statistics of training, of real and of generated pictures."""
    config = training(weights)
    state = start(config, categories=2, device=torch.device("cpu"))
    train(state, photos, config, 30)
    discriminator, given = state.discriminator, conditions(8)
    picture = from_uint8(photos.images[:1])
    mates = [torch.rand(7, 3, 32, 32), from_uint8(photos.images[1:8])]
    batches = [torch.cat([picture, each]) for each in mates]
    with torch.no_grad():
        in_training = [float(discriminator(each, given)[0]) for each in batches]
        discriminator.eval()
        scores = [float(discriminator(each, given)[0]) for each in batches]
        # Thirty steps of three batches each: next to nothing is left of the statistics they began with.
        generated = state.generator(torch.randn(8, 8), given)
        heads = discriminator.get_submodule("heads")
        norms = [each for each in heads.modules() if isinstance(each, nn.BatchNorm2d)]
        seen = {each.num_batches_tracked.item() for each in norms}
    assert scores[0] == scores[1]
    assert in_training[0] != in_training[1]
    assert seen == {3 * 30 + 2}
    assert discriminator(generated, given).isfinite().all()


@pytest.mark.slow
def test_eight_photos_are_overfitted(photos: Any, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a backbone with random weights, and within seconds: colours and the white ground are there."""
    monkeypatch.setattr(projected, "HEAD_CHANNELS", 16)
    config = training(
        weights, generator_lr=5e-3, discriminator_lr=1e-3, adam_betas=(0.0, 0.99), ema_half_life_images=64
    )
    wider = config.network | {"generator_channels": 16, "max_channels": 32}
    config = changed(config, network=wider, colour_dropout=0.0)
    state = start(config, categories=2, device=torch.device("cpu"))
    real, given = from_uint8(photos.images), photos.conditions(torch.arange(len(photos)))
    latents = torch.randn(len(photos), 8, generator=torch.Generator().manual_seed(0))
    errors = []
    for _ in range(2):
        with torch.no_grad():
            errors.append(float((state.ema(latents, given) - real).abs().mean()))
        if len(errors) == 1:
            train(state, photos, config, 250)
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone_resolution": 100}, "backbone_resolution is 100; it must be a multiple of 32"),
        ({"backbone": "no_such_network"}, "timm has no network 'no_such_network'"),
        ({"backbone": "test_vit"}, "'test_vit' has no feature maps at the strides 4, 8, 16, 32"),
        ({"resolution": 96}, "resolution is 96; it must be a power of two from 32"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProjectedConfig(**{"categories": 1, "resolution": 32} | options)
