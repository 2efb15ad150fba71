from collections.abc import Callable
from math import exp, log
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from toygan.training.config import LossName
from toygan.training.losses import (
    DETAIL_FLOOR,
    LEAST_DETAIL_SIDE,
    LOSSES,
    content_loss,
    detail_energy_loss,
    detail_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    path_length_penalty,
    path_lengths,
    perceptual_loss,
    product_colour_loss,
    r1_penalty,
    r2_penalty,
    score_gradients,
    structure_loss,
)

LOG_3 = log(3)  # the logit of the probability 3/4


def logits(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def generator_loss(name: str, real: Tensor, generated: Tensor) -> Tensor:
    loss = LOSSES[name]
    return loss.generator(real, generated) if loss.paired else loss.generator(generated)


def gradient(loss: Tensor, of: Tensor) -> list[float]:
    (values,) = torch.autograd.grad(loss, of)
    return [float(value) for value in values]


def test_discriminator_by_hand() -> None:
    """Real 2, 0.5, -1: (0 + 0.5 + 2) / 3; generated -2, 0, 1: (0 + 1 + 2) / 3; together 5.5 / 3."""
    real = torch.tensor([2.0, 0.5, -1.0], requires_grad=True)
    generated = torch.tensor([-2.0, 0.0, 1.0], requires_grad=True)
    loss = hinge_discriminator_loss(real, generated)
    assert loss.item() == pytest.approx(5.5 / 3)
    loss.backward()
    # Whoever is beyond the margin pulls no more.
    assert real.grad is not None
    assert generated.grad is not None
    assert real.grad.tolist() == pytest.approx([0, -1 / 3, -1 / 3])
    assert generated.grad.tolist() == pytest.approx([0, 1 / 3, 1 / 3])


def test_generator_by_hand() -> None:
    """-(-2 + 0 + 5) / 3; the pull never ends."""
    generated = torch.tensor([-2.0, 0.0, 5.0], requires_grad=True)
    loss = hinge_generator_loss(generated)
    assert loss.item() == pytest.approx(-1)
    loss.backward()
    assert generated.grad is not None
    assert generated.grad.tolist() == pytest.approx([-1 / 3] * 3)


@pytest.mark.parametrize(
    ("name", "discriminator", "generator"),
    [
        # The logits log 3 and 0 are the probabilities 3/4 and 1/2 of being real, for both kinds of picture.
        # D: -(log 3/4 + log 1/2) / 2 - (log 1/4 + log 1/2) / 2; G: (log 1/4 + log 1/2) / 2
        ("minimax", (log(4 / 3) + log(2) + log(4) + log(2)) / 2, (log(1 / 4) + log(1 / 2)) / 2),
        # G: -(log 3/4 + log 1/2) / 2
        ("non_saturating", (log(4 / 3) + log(2) + log(4) + log(2)) / 2, (log(4 / 3) + log(2)) / 2),
        # Pairs of equal logits: the one is the more real one with probability 1/2.
        ("relativistic", log(2), log(2)),
    ],
)
def test_by_hand(name: str, discriminator: float, generator: float) -> None:
    real, generated = logits(LOG_3, 0.0), logits(LOG_3, 0.0)
    assert LOSSES[name].discriminator(real, generated).item() == pytest.approx(discriminator)
    assert generator_loss(name, real, generated).item() == pytest.approx(generator)


def test_relativistic_pairs_by_hand() -> None:
    """Real minus generated is log 3 in the first pair, -log 3 in the second: probabilities 3/4 and 1/4."""
    real, generated = logits(LOG_3, 1.0), logits(0.0, 1.0 + LOG_3)
    wanted = (log(4 / 3) + log(4)) / 2
    assert LOSSES["relativistic"].discriminator(real, generated).item() == pytest.approx(wanted)
    loss = generator_loss("relativistic", real, generated)
    assert loss.item() == pytest.approx(wanted)
    # The pull on a generated picture is the probability that it is the less real one.
    assert gradient(loss, generated) == pytest.approx([-3 / 8, -1 / 8])


def test_minimax_saturates_and_its_remedy_does_not() -> None:
    """At the logit -9 the slopes are the sigmoid of -9 and of 9, negated."""
    sure = logits(-9.0)
    share = 1 / (1 + exp(9))
    assert gradient(generator_loss("minimax", sure, sure), sure) == pytest.approx([-share])
    assert gradient(generator_loss("non_saturating", sure, sure), sure) == pytest.approx([share - 1])


@pytest.mark.parametrize("name", LOSSES)
def test_each_side_pulls_its_own_way(name: str) -> None:
    real, generated = logits(0.5, -0.5, 0.2), logits(-0.4, -0.3, -0.2)
    loss = LOSSES[name].discriminator(real, generated)
    assert all(slope < 0 for slope in gradient(LOSSES[name].discriminator(real, generated), real))
    assert all(slope > 0 for slope in gradient(loss, generated))
    assert all(slope < 0 for slope in gradient(generator_loss(name, real.detach(), generated), generated))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name: str) -> None:
    real, generated = logits(0.7, -1.6, 0.2), logits(-0.4, 1.3, -2.2)
    assert torch.autograd.gradcheck(LOSSES[name].discriminator, (real, generated))
    assert torch.autograd.gradcheck(lambda *both: generator_loss(name, *both), (real, generated))


@pytest.mark.parametrize("name", LOSSES)
def test_logits_far_out_stay_finite(name: str) -> None:
    real, generated = torch.tensor([-1e4, 1e4]), torch.tensor([1e4, -1e4])
    assert LOSSES[name].discriminator(real, generated).isfinite()
    assert generator_loss(name, real, generated).isfinite()


def test_every_loss_has_a_name_in_the_config() -> None:
    assert set(LOSSES) == set(get_args(LossName))


def pictures() -> Tensor:
    """Two pictures of 3 x 1 x 1: (1, 2, 2) and (0, 3, 4)."""
    values = torch.tensor([[1.0, 2.0, 2.0], [0.0, 3.0, 4.0]], dtype=torch.float64)
    return values.view(2, 3, 1, 1).requires_grad_(True)


def test_penalties_by_hand() -> None:
    """D(x) = |x|^2 / 2 has the gradient x: the squared lengths are 9 and 25."""
    x = pictures()
    score = x.square().flatten(1).sum(1) / 2
    assert r1_penalty(x, score).item() == pytest.approx((9 + 25) / 2 / 2)
    assert r2_penalty(x, score).item() == pytest.approx((9 + 25) / 2 / 2)


def test_gradients_belong_to_their_own_picture() -> None:
    x = pictures()
    assert torch.equal(score_gradients(x, x.square().flatten(1).sum(1) / 2), x.detach().flatten(1))


@pytest.mark.parametrize("penalty", [r1_penalty, r2_penalty])
def test_penalties_teach_the_weights(penalty: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Second derivatives through convolution, pooling and leaky ReLU, against finite differences."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.LeakyReLU(0.2), nn.AvgPool2d(2), nn.Flatten())
    head = nn.Linear(8, 1).double()
    network.double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)

    def of_weight(weight: Tensor) -> Tensor:
        features = torch.func.functional_call(network, {"0.weight": weight}, (x,))
        return penalty(x, head(torch.tanh(features)).squeeze(1))

    assert torch.autograd.gradcheck(of_weight, (network[0].weight,))


def test_path_lengths_by_hand() -> None:
    """A picture that is 3 times the first style and 4 times the second, in one pixel with the direction 2.

    Its gradients are 6 and 8, the mean of their squares (36 + 64) / 2; the second picture moves half as far.
    """
    styles = torch.ones(2, 2, 1, dtype=torch.float64, requires_grad=True)
    factors = torch.tensor([[3.0, 4.0], [1.5, 2.0]], dtype=torch.float64)
    images = (styles.squeeze(2) * factors).sum(dim=1).view(2, 1, 1, 1)
    lengths = path_lengths(images, styles, torch.full((2, 1, 1, 1), 2.0, dtype=torch.float64))
    assert lengths.tolist() == pytest.approx([50**0.5, 50**0.5 / 2])
    assert path_length_penalty(torch.tensor([3.0, 5.0]), torch.tensor(2.0)).item() == (1 + 9) / 2


def test_the_path_length_teaches_the_weights() -> None:
    styles = torch.randn(2, 1, 3, dtype=torch.float64, requires_grad=True)
    directions = torch.randn(2, 1, 2, 2, dtype=torch.float64)

    def of_weight(weight: Tensor) -> Tensor:
        images = torch.tanh(styles.flatten(1) @ weight).view(2, 1, 2, 2)
        return path_length_penalty(path_lengths(images, styles, directions), torch.ones(()).double())

    weight = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(of_weight, (weight,))


def test_perceptual_loss_by_hand() -> None:
    """Two layers. At one of the first's two points the maps stand at a right angle (2), at the other they
    agree (0): mean 1. In the second they are opposite: 4."""
    first = torch.tensor([[1.0, 2.0], [0.0, 0.0]]).view(1, 2, 1, 2)
    turned = torch.tensor([[0.0, 5.0], [3.0, 0.0]]).view(1, 2, 1, 2)
    second = torch.ones(1, 3, 1, 1)
    assert perceptual_loss([first, second], [turned, -second]).item() == pytest.approx(1 + 4)
    assert perceptual_loss([first, second], [7 * first, second]).item() == pytest.approx(0, abs=1e-6)


def test_structure_loss_by_hand() -> None:
    """Flat brightness of 0.5 and 0.6 in [0, 1], and columns that are opposite."""
    flat = torch.zeros(1, 3, 16, 16)
    inside = torch.zeros(1, 1, 16, 16)
    inside[..., 4:12, 4:12] = 1
    similarity = (2 * 0.5 * 0.6 + 1e-4) / (0.5**2 + 0.6**2 + 1e-4)
    assert structure_loss(flat, flat, inside).item() == pytest.approx(0, abs=1e-6)
    assert structure_loss(flat + 0.2, flat, inside).item() == pytest.approx(1 - similarity, abs=1e-3)
    stripes = torch.where(torch.arange(16) % 2 == 0, 0.5, -0.5).expand(1, 3, 16, 16)
    assert 1.8 < structure_loss(-stripes, stripes, inside).item() < 2


def test_content_loss_by_hand() -> None:
    """A layer of 2, of which the picture has 3: half as much again. One of 4 and -4, of which it has 4 and 0:
    half of it, by mean absolute values."""
    first, second = torch.full((1, 2, 2, 2), 2.0), torch.tensor([4.0, -4.0]).view(1, 2, 1, 1)
    found = torch.tensor([4.0, 0.0]).view(1, 2, 1, 1)
    assert content_loss([first, second], [first, second]) == 0
    assert content_loss([first], [first + 1]).item() == pytest.approx(0.5)
    assert content_loss([first, second], [first + 1, found]).item() == pytest.approx(0.5 + 0.5)
    assert content_loss([10 * first], [10 * first + 10]).item() == pytest.approx(0.5)
    assert content_loss([0 * first], [0 * first]) == 0


def test_the_gradients_of_the_perceptual_loss() -> None:
    rng = torch.Generator().manual_seed(0)
    real, generated = (torch.randn(2, 3, 2, 2, generator=rng, dtype=torch.float64) for _ in range(2))
    generated.requires_grad_(True)
    loss = perceptual_loss([real], [generated])
    assert loss.dtype == torch.float32  # whatever the maps are
    (found,) = torch.autograd.grad(loss, generated)
    step = 1e-3 * torch.randn(generated.shape, generator=rng, dtype=torch.float64)
    with torch.no_grad():
        change = perceptual_loss([real], [generated + step]) - perceptual_loss([real], [generated - step])
    assert change.item() == pytest.approx(2 * (found * step).sum().item(), rel=1e-2)


def product(colour: tuple[float, float, float], pixels: int) -> Tensor:
    """(1, 3, 16, 16): a product of `pixels` pixels of one colour, on white, beside a soft shadow."""
    image = torch.ones(3, 256)
    image[:, :40] = 0.6
    image[:, 40 : 40 + pixels] = torch.tensor(colour)[:, None]
    return image.view(1, 3, 16, 16)


def test_colours_of_products_by_hand() -> None:
    """Red of (0.5, -1, -1) and (0.2, -1, -0.7): (0.3 + 0 + 0.3) / 3, whatever the sizes of the two."""
    generated = product((0.2, -1.0, -0.7), 10).requires_grad_()
    loss = product_colour_loss(generated, product((0.5, -1.0, -1.0), 30), torch.tensor([True]))
    assert loss.item() == pytest.approx(0.2)
    loss.backward()
    assert generated.grad is not None
    pulls = generated.grad.view(3, 256)
    # Only the pixels of the product are moved: to more red and less blue.
    torch.testing.assert_close(pulls[:, 40:50], torch.tensor([[-1 / 30], [0.0], [1 / 30]]).expand(3, 10))
    assert pulls[:, 50:].count_nonzero() == pulls[:, :40].count_nonzero() == 0


def test_what_shows_no_product_or_has_no_colour_says_nothing() -> None:
    red, blue, white = (
        product(colour, 30) for colour in ((0.5, -1.0, -1.0), (-1.0, -1.0, 0.5), (1.0, 1.0, 1.0))
    )
    generated, real = torch.cat([red, red, white, blue]), torch.cat([blue, white, red, red])
    loss = product_colour_loss(generated, real, torch.tensor([True, True, True, False]))
    assert loss.item() == pytest.approx(1.0)  # the first alone: (1.5 + 0 + 1.5) / 3
    nothing = product_colour_loss(generated[1:], real[1:], torch.tensor([True, True, False]))
    assert nothing.item() == 0


def stripes(strength: float) -> Tensor:
    """A picture with stripes of two pixels; with the floor their root mean square is `strength` floors."""
    amplitude = DETAIL_FLOOR * (strength**2 - 1) ** 0.5
    picture = torch.ones(1, 3, LEAST_DETAIL_SIDE, LEAST_DETAIL_SIDE)
    picture[..., ::2] = -1
    return amplitude * picture


def test_detail_loss_by_hand() -> None:
    """One of six bands differs: three times as strong in the photo. Where the stripes lie is no matter."""
    wanted = (3 - LOG_3 - 1) / 6
    assert detail_loss(stripes(2), stripes(6)).item() == pytest.approx(wanted, rel=1e-4)
    assert detail_loss(stripes(2), -stripes(6)).item() == pytest.approx(wanted, rel=1e-4)
    assert detail_loss(stripes(2), stripes(2).mT).item() > 0.01
    assert detail_loss(-stripes(2), stripes(2)).item() == pytest.approx(0, abs=1e-6)


def test_detail_energy_loss_by_hand() -> None:
    """The photos have nine times the energy of the pictures in one of six bands, wherever it is."""
    wanted = 2 * LOG_3 / 6
    assert detail_energy_loss(stripes(2), stripes(6)).item() == pytest.approx(wanted, rel=1e-4)
    assert detail_energy_loss(stripes(6), stripes(2)).item() == pytest.approx(wanted, rel=1e-4)
    parts = torch.cat([stripes(2), stripes(6)])
    assert detail_energy_loss(parts, -parts.flip(0)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("strength", "wanted"), [(2, -1), (4, 0), (6, 1)])
def test_detail_of_two_strengths_is_learnt_as_their_mean(strength: float, wanted: int) -> None:
    """Photos with strengths 2 and 6: the slope over the strength is 0 at 4."""
    gain = torch.ones((), requires_grad=True)
    loss = sum(detail_loss(gain * stripes(strength), stripes(photo)) for photo in (2, 6))
    assert isinstance(loss, Tensor)
    (slope,) = torch.autograd.grad(loss, gain)
    assert slope.sign() * (slope.abs() > 1e-3) == wanted
