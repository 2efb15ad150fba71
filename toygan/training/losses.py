"""Adversarial losses and gradient penalties as pure functions.

Logits are (B,) float32; above 0 means more like a photo. Losses and penalties are scalars to be minimised. In
the formulas D is the logit, as in the papers after 2017. In older papers D is a probability, which is the
sigmoid of the logit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from toygan.images import BRIGHTNESS, COLOURED, DARK
from toygan.models.bands import REACH, detail_bands

STRUCTURE_SIDE = 7  # side in pixels of the squares whose structure is compared
# The constants of Wang et al. 2004, eq. 7 and section III.B, for brightness in [0, 1].
STRUCTURE_C1, STRUCTURE_C2 = 0.01**2, 0.03**2
FEWEST_PRODUCT_SHARE = 1 / 256  # with a smaller share of product pixels, a picture has no mean colour
DETAIL_PATCH = 16  # side in pixels of the patches whose detail is compared
DETAIL_FLOOR = 1 / 255  # half a brightness step, in units of [-1, 1]: weaker detail counts as this strong
LEAST_DETAIL_SIDE = DETAIL_PATCH + 2 * REACH  # the smallest pictures that have a patch, in pixels


def minimax_discriminator_loss(real_logits: Tensor, generated_logits: Tensor) -> Tensor:
    """Goodfellow et al. 2014, eq. 1, negated: -E[log D(x)] - E[log(1 - D(G(z)))], binary cross-entropy."""
    return F.softplus(-real_logits).mean() + F.softplus(generated_logits).mean()


def minimax_generator_loss(generated_logits: Tensor) -> Tensor:
    """Goodfellow et al. 2014, eq. 1: E[log(1 - D(G(z)))].

    If the discriminator is certain, the gradient vanishes.
    """
    return -F.softplus(generated_logits).mean()


def non_saturating_generator_loss(generated_logits: Tensor) -> Tensor:
    """Goodfellow et al. 2014, end of section 3: -E[log D(G(z))]. Its gradient does not vanish."""
    return F.softplus(-generated_logits).mean()


def hinge_discriminator_loss(real_logits: Tensor, generated_logits: Tensor) -> Tensor:
    """Lim & Ye 2017, eq. 3: E[max(0, 1 - D(x))] + E[max(0, 1 + D(G(z)))]."""
    return F.relu(1 - real_logits).mean() + F.relu(1 + generated_logits).mean()


def hinge_generator_loss(generated_logits: Tensor) -> Tensor:
    """Lim & Ye 2017, eq. 4: -E[D(G(z))]."""
    return -generated_logits.mean()


def relativistic_discriminator_loss(real_logits: Tensor, generated_logits: Tensor) -> Tensor:
    """Huang et al. 2024 (R3GAN), eq. 2: E[log(1 + e^-(D(x) - D(G(z))))].

    Each real picture is paired with the generated picture of the same row.
    """
    return F.softplus(generated_logits - real_logits).mean()


def relativistic_generator_loss(real_logits: Tensor, generated_logits: Tensor) -> Tensor:
    """Huang et al. 2024 (R3GAN), eq. 2 with real and generated exchanged: E[log(1 + e^-(D(G(z)) - D(x)))]."""
    return F.softplus(real_logits - generated_logits).mean()


@dataclass(frozen=True)
class AdversarialLoss:
    """The losses of both networks."""

    discriminator: Callable[[Tensor, Tensor], Tensor]  # takes real and generated logits
    generator: Callable[..., Tensor]  # takes generated logits; if `paired`, real and generated logits
    paired: bool = False


LOSSES: Mapping[str, AdversarialLoss] = MappingProxyType(
    {
        "minimax": AdversarialLoss(minimax_discriminator_loss, minimax_generator_loss),
        "non_saturating": AdversarialLoss(minimax_discriminator_loss, non_saturating_generator_loss),
        "hinge": AdversarialLoss(hinge_discriminator_loss, hinge_generator_loss),
        "relativistic": AdversarialLoss(
            relativistic_discriminator_loss, relativistic_generator_loss, paired=True
        ),
    }
)


def score_gradients(images: Tensor, logits: Tensor) -> Tensor:
    """Returns dD/dx of every picture, (B, 3 * H * W) float32. The result can be differentiated again.

    `images` (B, 3, H, W) float32 must require gradients. Each of the `logits` (B,) must depend on its own
    picture only.
    """
    (gradients,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradients.flatten(1)


def r1_penalty(real_images: Tensor, real_logits: Tensor) -> Tensor:
    """Mescheder et al. 2018, eq. 9: E[||dD/dx||^2] / 2 on real pictures, to be multiplied by gamma."""
    return score_gradients(real_images, real_logits).square().sum(1).mean() / 2


def r2_penalty(generated_images: Tensor, generated_logits: Tensor) -> Tensor:
    """Mescheder et al. 2018, eq. 10: E[||dD/dx||^2] / 2 on generated pictures, to be multiplied by gamma."""
    return score_gradients(generated_images, generated_logits).square().sum(1).mean() / 2


def path_lengths(images: Tensor, styles: Tensor, directions: Tensor) -> Tensor:
    """Measures how much each picture changes with its styles: ||J^T y|| of the paper, (B,) float32.

    Each row of `images` (B, 3, H, W) must depend on its own row of `styles` (B, layers, style_size) only.
    `directions`, the y of the paper, are random pictures from N(0, 1 / (H * W)). The squared norms are
    averaged over the layers. Source: Karras et al. 2020, section 3.2.
    """
    (gradients,) = torch.autograd.grad((images * directions).sum(), styles, create_graph=True)
    return gradients.square().sum(dim=2).mean(dim=1).sqrt()


def path_length_penalty(lengths: Tensor, mean_length: Tensor) -> Tensor:
    """Karras et al. 2020, eq. 4: E[(||J^T y|| - a)^2], with `mean_length` () the running mean a."""
    return (lengths - mean_length).square().mean()


def reconstruction_loss(generated_images: Tensor, real_images: Tensor) -> Tensor:
    """Isola et al. 2017, eq. 3: E[||y - G(x, z)||_1], here the mean absolute difference of all values."""
    return F.l1_loss(generated_images, real_images)


def feature_matching_loss(real_features: Sequence[Tensor], generated_features: Sequence[Tensor]) -> Tensor:
    """Wang et al. 2018 (pix2pixHD), eq. 3: the mean absolute difference of a discriminator's features.

    Features are one (B, C, H, W) tensor per layer. Every layer has the same weight. No gradient flows into
    the real features.
    """
    pairs = zip(real_features, generated_features, strict=True)
    return torch.stack([F.l1_loss(generated, real.detach()) for real, generated in pairs]).mean()


def product_colour_loss(generated_images: Tensor, real_images: Tensor, known: Tensor) -> Tensor:
    """Returns the mean absolute difference between the product's mean colour in picture and photo.

    Pictures are (B, 3, H, W) float32 in [-1, 1]. `known` (B,) bool says for which rows the networks were
    given the colour. Other rows do not count, nor do rows with too few product pixels. Product pixels are
    dark or coloured pixels. The shape has no influence, so the loss can also be used with random latents.
    """
    (colours, generated_shown), (target, real_shown) = map(_product_colours, (generated_images, real_images))
    counted = (known & generated_shown & real_shown)[:, None].float()
    differences = counted * (colours - target.detach()).abs()
    return differences.sum() / (3 * counted.sum()).clamp(min=1)


def _product_colours(images: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean colours of the product pixels, (B, 3), and whether there are enough of these pixels,
    (B,) bool.
    """
    images = images.float()
    with torch.no_grad():
        brightest, darkest = images.amax(dim=1), images.amin(dim=1)
        is_product = (brightest < 2 * DARK / 255 - 1) | (brightest - darkest > 2 * COLOURED / 255)
        pixels = is_product.sum(dim=(1, 2))
    sums = (images * is_product[:, None]).sum(dim=(2, 3))
    return sums / pixels.clamp(min=1)[:, None], pixels >= FEWEST_PRODUCT_SHARE * is_product[0].numel()


def layer_distances(first: Tensor, second: Tensor) -> Tensor:
    """Returns the squared distance between the directions of two feature maps (B, C, H, W): (B,) in 0..4.

    Source: Zhang et al. 2018 (LPIPS), eq. 1 for one layer, with all weights 1. The features of every point
    are scaled to length 1. The distance is averaged over the points.
    """
    first, second = (F.normalize(each.float(), dim=1, eps=1e-10) for each in (first, second))
    return (first - second).square().sum(dim=1).mean(dim=(1, 2))


def gradient_loss(generated: Tensor, real: Tensor, scales: int = 2) -> Tensor:
    """The mean absolute difference of the horizontal and vertical slopes, added up over the scales.

    Each scale after the first has half the size of the one before. Similar to Mathieu et al. 2016, eq. 6 with
    alpha 1, which compares the slopes without their signs.
    """
    terms = []
    for _ in range(scales):
        difference = generated - real
        terms += [(difference[..., 1:] - difference[..., :-1]).abs().mean()]
        terms += [(difference[..., 1:, :] - difference[..., :-1, :]).abs().mean()]
        generated, real = F.avg_pool2d(generated, 2), F.avg_pool2d(real, 2)
    return torch.stack(terms).sum()


def structure_loss(generated: Tensor, real: Tensor, inside: Tensor) -> Tensor:
    """1 minus the structural similarity of brightness (Wang et al. 2004, eq. 13), averaged over `inside`.

    Pictures are (B, 3, H, W) in [-1, 1], `inside` is (B, 1, H, W) in [0, 1]. The windows are plain squares.
    """
    shares = torch.tensor(BRIGHTNESS, device=real.device).view(1, 3, 1, 1)
    first, second = (((each.float() * shares).sum(1, keepdim=True) + 1) / 2 for each in (generated, real))

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(
            values, STRUCTURE_SIDE, stride=1, padding=STRUCTURE_SIDE // 2, count_include_pad=False
        )

    first_mean, second_mean = mean(first), mean(second)
    both = mean(first * second) - first_mean * second_mean
    variances = mean(first * first) - first_mean.square() + mean(second * second) - second_mean.square()
    brightness = (2 * first_mean * second_mean + STRUCTURE_C1) / (
        first_mean.square() + second_mean.square() + STRUCTURE_C1
    )
    similarity = brightness * (2 * both + STRUCTURE_C2) / (variances + STRUCTURE_C2)
    return ((1 - similarity) * inside).sum() / inside.sum().clamp(min=1)


def detail_loss(generated: Tensor, real: Tensor) -> Tensor:
    """The difference in how strong the fine detail is, patch by patch, whatever its place inside the patch.

    The best picture for a loss on single pixels is the mean or the median of all possible pictures, which is
    blurred. This loss compares the strength of the detail alone, as losses on the magnitudes of a Fourier
    transform do (Fuoli et al. 2021, "Fourier Space Losses"), but in overlapping patches, so that detail stays
    near its place. Pictures are (B, C, H, W) in [-1, 1], at least `LEAST_DETAIL_SIDE` a side.

    The strength is the root mean square of a band (`toygan.models.bands`) in a patch. Real and generated
    strengths are compared by the divergence of Itakura and Saito 1968, r - log r - 1, where r is their ratio.
    Where the real strength is uncertain, the divergence is least for its mean (Banerjee et al. 2005,
    proposition 1). The result is the mean over patches and bands.
    """
    terms = []
    for bands in zip(detail_bands(real.float()), detail_bands(generated.float()), strict=True):
        real_strength, generated_strength = map(_strength, bands)
        ratio = real_strength / generated_strength
        terms.append((ratio - ratio.log() - 1).mean())
    return torch.stack(terms).mean()


def detail_energy_loss(generated: Tensor, real: Tensor) -> Tensor:
    """The difference in the energy of the fine detail of all pictures together, band by band.

    In `detail_loss` all patches count alike. Sharp edges have most of the energy, but they are few. Here they
    count by their energy. Pictures are (B, C, H, W) in [-1, 1]. The result is the mean of |log r| over the
    bands of `toygan.models.bands`: r is the mean square of a band in all generated pictures by that in all
    real ones.
    """
    terms = []
    for bands in zip(detail_bands(real.float()), detail_bands(generated.float()), strict=True):
        real_energy, generated_energy = (each.square().mean() + DETAIL_FLOOR**2 for each in bands)
        terms.append((generated_energy / real_energy).log().abs())
    return torch.stack(terms).mean()


def _strength(band: Tensor) -> Tensor:
    """Maps (B, C, H, W) to the strength in each patch, (B, 1, h, w), at least `DETAIL_FLOOR`."""
    energy = band.square().mean(dim=1, keepdim=True)
    energy = F.avg_pool2d(energy, DETAIL_PATCH, stride=DETAIL_PATCH // 2)
    return (energy + DETAIL_FLOOR**2).sqrt()


def perceptual_loss(real_maps: Sequence[Tensor], generated_maps: Sequence[Tensor]) -> Tensor:
    """Zhang et al. 2018 (LPIPS), eq. 1 with all weights 1: the distance in a frozen network's features.

    Features are one (B, C, H, W) tensor per layer. The result is summed over layers and averaged over B.
    """
    pairs = zip(real_maps, generated_maps, strict=True)
    return torch.stack([layer_distances(real, generated).mean() for real, generated in pairs]).sum()


def content_loss(real_maps: Sequence[Tensor], generated_maps: Sequence[Tensor]) -> Tensor:
    """Wang et al. 2018 (ESRGAN), section 3.3: the mean absolute difference of a frozen network's features.

    Features are one (B, C, H, W) tensor per layer. Each layer is divided by the mean absolute value of the
    real features, so that layers have equal weight. The result is the sum over the layers. On plain white
    ground the features are small and mostly noise. There the directions of features, which `perceptual_loss`
    compares, differ much, but their values differ little.
    """
    pairs = zip(real_maps, generated_maps, strict=True)
    differences = [
        F.l1_loss(generated.float(), real.float()) / real.float().abs().mean().clamp(min=1e-6)
        for real, generated in pairs
    ]
    return torch.stack(differences).sum()


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kingma & Welling 2014, appendix B: the divergence of N(mean, e^log_variance) from N(0, 1).

    Both are (B, D). The result is summed over D and averaged over B.
    """
    return (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean() / 2
