from collections.abc import Mapping
from dataclasses import replace
from math import prod

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.toygan.models.alike import (
    check_that_bf16_keeps_more_than_eight_bits,
    check_that_the_generator_follows,
)
from tests.toygan.models.pix2pix_networks import TINY, conditions, networks
from toygan.models.pix2pix import (
    STRIDES,
    Pix2pixConfig,
)

PAPER = Pix2pixConfig(
    categories=1, resolution=256, generator_channels=64, discriminator_channels=64, max_channels=512
)


def parameters(*modules: nn.Module) -> int:
    return sum(prod(parameter.shape) for module in modules for parameter in module.parameters())


def test_widths_double_from_the_picture_inwards_up_to_the_limit() -> None:
    assert TINY.generator_widths == [4, 8, 16, 16, 16]  # at 16, 8, 4, 2 and 1 pixels
    assert TINY.discriminator_widths == [4, 8, 16, 16]
    assert PAPER.generator_widths == [64, 128, 256, 512, 512, 512, 512, 512]
    assert PAPER.discriminator_widths == [64, 128, 256, 512]


def test_the_papers_generator_has_54_million_parameters() -> None:
    """The paper's network, for 3 channels each way, with kernels of 4 x 4:

    downs     16 * (3*64 + 64*128 + 128*256 + 256*512 + 4 * 512*512)                    = 19,532,800
    ups       16 * (512*512 + 3 * 1024*512 + 1024*256 + 512*128 + 256*64 + 128*3) + 3   = 34,871,299
    norms     2 * (128 + 256 + 4*512) and 2 * (4*512 + 256 + 128 + 64)                  =      9,856
    together                                                                            = 54,413,955

    Here the drawing has one channel (2 * 64 * 16 fewer); kernels on the way up are 3 x 3 (7 of 16 fewer); the
    last down has a bias, since nothing normalises behind it (the first has one in the paper's code, counted
    or not: 64 and 512 more); and gain and bias on the way up come from the condition: the 2 * 2496 of the
    norms become linear maps, which are counted apart.
    """
    generator, _ = networks(PAPER)
    convolutions = parameters(generator.downs, generator.down_norms, generator.ups, generator.to_rgb)
    smaller_kernels = (34_871_299 - 3) // 16 * 7
    assert convolutions == 54_413_955 - 2 * 64 * 16 - smaller_kernels + (64 + 512) - 2 * 2_496
    # 32 latents and 64 numbers of the embedding to gain and bias of 2496 channels.
    assert parameters(generator.up_norms) == 2 * 2_496 * (32 + 64 + 1)


def test_the_papers_discriminator_has_2_8_million_parameters() -> None:
    """All kernels are 4 x 4; the paper's network, for a picture and a picture:

    layers    16 * (6*64 + 64*128 + 128*256 + 256*512) + 64      = 2,758,720
    norms     2 * (128 + 256 + 512)                              =     1,792
    logit     16 * 512 + 1                                       =     8,193
    together                                                     = 2,768,705

    Here the drawing has one channel (2 * 64 * 16 fewer), and in place of each norm's gain and bias a
    convolution has its bias (128 + 256 + 512 fewer).
    """
    _, discriminator = networks(PAPER)
    assert parameters(discriminator.layers, discriminator.logit) == 2_768_705 - 2 * 64 * 16 - 896
    # The condition's part: an embedding of one category and of the colour, and a projection.
    assert parameters(discriminator.embedding) == 64 + (4 + 1) * 64 + (64 + 1) * 64
    assert parameters(discriminator.projection) == (64 + 1) * 512


def test_parameters_of_small_networks() -> None:
    """Widths inwards are 4, 8, 16, 16, 16; latents and embedding together are 8 + 4 = 12.

    embedding   3 categories x 4, and two linear maps 4 -> 4                12 + 2 * (4 * 4 + 4)   =     52
    downs       16 * (1*4 + 4*8 + 8*16 + 16*16 + 16*16) + 4 + 16                                   = 10,836
    down norms  gain and bias of 8, 16, 16                                  2 * 40                 =     80
    ups         9 * (16*16 + 32*16 + 32*8 + 16*4)                                                  =  9,792
    up norms    gain and bias of 16, 16, 8, 4, each 12 -> width             2 * (12 + 1) * 44      =  1,144
    to_rgb      8 -> 3                                                      9 * 8 * 3 + 3          =    219
    layers      16 * (4*4 + 4*8 + 8*16 + 16*16) + 4 + 8 + 16 + 16                                  =  6,956
    logit       16 -> 1                                                     16 * 16 + 1            =    257
    projection  4 -> 16                                                     4 * 16 + 16            =     80
    """
    generator, discriminator = networks()
    assert parameters(generator) == 52 + 10_836 + 80 + 9_792 + 1_144 + 219
    assert parameters(discriminator) == 6_956 + 257 + 52 + 80


@pytest.mark.parametrize("resolution", [32, 64, 128])
def test_shapes(resolution: int) -> None:
    generator, discriminator = networks(replace(TINY, resolution=resolution))
    given = conditions(2, resolution)
    images = generator(torch.randn(2, generator.latent_size), given)
    assert images.shape == (2, 3, resolution, resolution)
    assert images.dtype == torch.float32
    output = discriminator.eval().forward_with_features(images, given)
    patches = resolution // 8 - 2  # 256 pixels: 30 x 30, as in the paper's code
    assert [each.shape for each in output.logits] == [(2, 1, patches, patches)]
    assert [each.shape[1] for each in output.features] == [4, 8, 16, 16]
    assert torch.equal(discriminator(images, given), output.logits[0].flatten(1).mean(1))


def test_a_logit_sees_a_patch_of_70_x_70() -> None:
    """Backwards from one logit, kernels of 4: 1 -> 4 -> 7 -> 16 -> 34 -> 70 pixels."""
    side = 1
    for stride in reversed(STRIDES):
        side = (side - 1) * stride + 4
    assert side == 70
    _, discriminator = networks(replace(TINY, resolution=128))
    nn.init.normal_(discriminator.projection.weight)
    images = torch.rand(1, 3, 128, 128, requires_grad=True)
    middle = discriminator.eval().forward_with_features(images, conditions(1, 128)).logits[0][0, 0, 7, 7]
    (gradient,) = torch.autograd.grad(middle, images)
    rows, columns = (gradient.abs().sum((0, 1)) > 0).nonzero().unbind(1)
    for seen in (rows, columns):
        assert len(seen.unique()) == seen.max() - seen.min() + 1 == 70


def test_the_condition_is_projected_onto_each_patch() -> None:
    """Against the formula: logit + the mean over 4 x 4 of the features' product with the projected condition;
    of a patch that sticks out, the part outside counts as zero."""
    _, discriminator = networks()
    discriminator.eval()
    nn.init.normal_(discriminator.projection.weight)
    given, images = conditions(2), torch.rand(2, 3, 32, 32)
    output = discriminator.forward_with_features(images, given)
    features = F.pad(output.features[-1], (1, 1, 1, 1))
    projected = discriminator.projection(discriminator.embedding(given))
    plain = discriminator.logit(output.features[-1])
    for row, column in ((0, 0), (1, 1)):
        patch = features[:, :, row : row + 4, column : column + 4].mean((2, 3))
        expected = plain[:, 0, row, column] + (patch * projected).sum(1)
        torch.testing.assert_close(output.logits[0][:, 0, row, column], expected)


def test_under_bf16_the_picture_keeps_more_than_eight_bits() -> None:
    generator, discriminator = networks()
    check_that_bf16_keeps_more_than_eight_bits(generator, discriminator, torch.randn(2, 8), conditions(2))


def test_the_generator_follows_drawing_category_colour_and_latents() -> None:
    generator, _ = networks()
    generator.eval()
    others = [conditions(1, left=14), conditions(1, category=1), conditions(1, lightness=0.8)]
    check_that_the_generator_follows(generator, torch.randn(1, 8), conditions(1), others, least=1e-6)


def test_the_discriminator_sees_the_drawing() -> None:
    _, discriminator = networks()
    images = torch.rand(2, 3, 32, 32)
    discriminator.eval()
    assert not torch.equal(
        discriminator(images, conditions(2)), discriminator(images, conditions(2, left=14))
    )


def test_a_picture_does_not_depend_on_its_batch_mates() -> None:
    generator, discriminator = networks()
    generator.eval()
    discriminator.eval()
    latents, others = torch.randn(1, 8), [torch.randn(5, 8), 3 * torch.randn(5, 8)]
    given = [
        {name: torch.cat([own, mates[1:]]) for (name, own), mates in zip(pair, mates_of, strict=True)}
        for pair, mates_of in (
            (conditions(1).items(), conditions(6).values()),
            (conditions(1).items(), conditions(6, category=2, lightness=0.7, left=16).values()),
        )
    ]
    images = [
        generator(torch.cat([latents, other]), each)[0] for other, each in zip(others, given, strict=True)
    ]
    assert torch.equal(*images)
    pictures = [torch.cat([images[0][None], 2 * torch.rand(5, 3, 32, 32) - 1]) for _ in range(2)]
    scores = [discriminator(each, condition)[0] for each, condition in zip(pictures, given, strict=True)]
    assert torch.equal(*scores)


def test_gradients_of_the_discriminator_agree_with_differences() -> None:
    _, discriminator = networks()
    discriminator.double().eval()
    sketch = conditions(1)["sketch"].double()

    def logits(images: Tensor) -> Tensor:
        # Everything before the conversion to float32, whose rounding would drown the differences.
        features = torch.cat([images, sketch], dim=1)
        for layer in discriminator.layers:
            features = F.leaky_relu(layer(features), 0.2)
        return torch.as_tensor(discriminator.logit(features))

    images = torch.rand(1, 3, 32, 32, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(logits, images, fast_mode=True)


def test_every_weight_of_the_generator_gets_a_gradient() -> None:
    generator, _ = networks()
    target = torch.rand(4, 3, 32, 32)
    F.l1_loss(generator(torch.randn(4, 8), conditions(4)), target).backward()
    gradients = {name: parameter.grad for name, parameter in generator.named_parameters()}
    idle = [name for name, gradient in gradients.items() if gradient is None or not gradient.abs().max() > 0]
    assert not idle


def eight() -> tuple[Tensor, Mapping[str, Tensor]]:
    """Eight squares at eight places in two colours, which the colour condition names, and their drawings."""
    given = conditions(8)
    for row in range(8):
        given["sketch"][row] = conditions(1, left=6 + 2 * row)["sketch"]
    bright = torch.arange(8) % 2 == 0
    given["colour"] = torch.where(bright[:, None], torch.tensor([[0.5, 1.0, 0.5, 1.0]]), given["colour"])
    inside = torch.zeros(8, 1, 32, 32, dtype=torch.bool)
    for row in range(8):
        inside[row, :, 8:24, 6 + 2 * row : 24] = True
    shade = torch.where(bright[:, None], torch.tensor([[0.8, -0.6, -0.6]]), torch.tensor([[-0.6, -0.4, 0.7]]))
    return torch.where(inside, shade[:, :, None, None], 1.0), given


@pytest.mark.slow
def test_the_reconstruction_loss_overfits_eight_pictures() -> None:
    torch.manual_seed(0)
    generator, _ = networks(replace(TINY, generator_channels=16, max_channels=32))
    pictures, given = eight()
    optimizer = torch.optim.Adam(generator.parameters(), lr=5e-3, betas=(0.5, 0.999))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=250)
    first = F.l1_loss(generator(torch.randn(8, 8), given), pictures).item()
    for _ in range(250):
        optimizer.zero_grad()
        loss = F.l1_loss(generator(torch.randn(8, 8), given), pictures)
        loss.backward()
        optimizer.step()
        schedule.step()
    generated = generator.eval()(torch.randn(8, 8), given)
    assert first > 0.5
    assert F.l1_loss(generated, pictures).item() < 0.06
    # Each is the picture of its own drawing and colour, and of no other's.
    distances = (generated[:, None] - pictures[None]).abs().mean((2, 3, 4))
    assert distances.argmin(1).tolist() == list(range(8))
