"""Steering a product's white balance by the catalog's colour."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from skimage.color import rgb2lab

from toygan.conditions.colour import encode_colours
from toygan.models.steering import Floats, lab_to_rgb, rgb_to_lab, steer, terms
from toygan.models.studio import StudioLight

SIDE = 32
TRUE_LIGHT = np.eye(10, 3, dtype=np.float32)  # photos show the catalog's colours as they are


def test_lab_agrees_with_scikit_image_and_has_an_inverse() -> None:
    colours = np.random.default_rng(0).random((200, 3), dtype=np.float32)
    assert np.allclose(rgb_to_lab(colours), rgb2lab(colours), atol=0.05)
    assert np.allclose(lab_to_rgb(rgb_to_lab(colours)), colours, atol=1e-4)


def test_the_terms_of_a_colour_by_hand() -> None:
    assert terms(np.float32([[50, -20, 10]])).tolist() == [[50, -20, 10, 1, 25, 4, 1, -10, 5, -2]]


@pytest.mark.parametrize("count", [12, 400])
def test_the_light_is_learnt_from_photos(count: int) -> None:
    """Photos are brighter and paler; with many photos, also that light colours gain less is learnt."""
    given = torch.rand((count, 3), generator=torch.Generator().manual_seed(1)) * torch.tensor([90.0, 60, 60])
    bend = 0.0 if count < 100 else 0.3
    shown = given * torch.tensor([0.8, 0.7, 0.7]) + torch.tensor([20.0, 0.0, 0.0])
    shown[:, 0] -= bend * given[:, 0] ** 2 / 100
    light = StudioLight()
    light.fit(given, shown)
    found = torch.from_numpy(terms(given.numpy())) @ light.matrix
    assert (found - shown).abs().max() < (4.0 if count < 100 else 1.0)


def encoded(code: str | None) -> Floats:
    return encode_colours([code])[0].numpy()


def shown(red: float, green: float, blue: float) -> tuple[Floats, Floats]:
    """A product of one colour with a small print in another one."""
    mask = np.zeros((SIDE, SIDE), dtype=np.float32)
    mask[4:28, 4:28] = 1
    picture = np.where(mask > 0, np.float32([red, green, blue])[:, None, None], np.float32(1))
    picture[:, 10:14, 10:14] = np.float32([0.1, 0.2, 0.9])[:, None, None]
    return 2 * picture - 1, mask


@given(warm=st.floats(-0.2, 0.2), exposure=st.floats(0.7, 1.1))
def test_a_cast_and_a_wrong_exposure_are_put_right(warm: float, exposure: float) -> None:
    wanted = np.array([0.8, 0.3, 0.25])
    seen = wanted * np.array([1 + warm, 1, 1 - warm]) * exposure
    picture, mask = shown(*seen.tolist())
    code = "#" + "".join(f"{round(255 * value):02X}" for value in wanted.tolist())
    steered = steer(picture, mask, encoded(code), TRUE_LIGHT)
    assert np.allclose((steered[:, 20, 20] + 1) / 2, wanted, atol=0.02)
    assert np.allclose(steered[:, 12, 12], picture[:, 12, 12], atol=0.05)


def test_of_two_colours_the_one_of_the_catalog_changes() -> None:
    picture, mask = shown(0.7, 0.3, 0.3)
    picture[:, :, 15:] = np.float32([-0.5, 0.2, -0.5])[:, None, None]
    steered = steer(picture, mask, encoded("#C85050"), TRUE_LIGHT)
    assert np.allclose((steered[:, 20, 8] + 1) / 2, np.array([0xC8, 0x50, 0x50]) / 255, atol=0.03)
    assert np.allclose(steered[:, 20, 20], picture[:, 20, 20], atol=0.05)


def test_a_grey_roof_keeps_its_colour_on_a_green_car() -> None:
    """Also where the roof has more pixels than the body, whose colour the catalog gives."""
    picture, mask = shown(0.6, 0.6, 0.6)
    picture[:, 20:] = np.float32([-0.8, 0.0, -0.6])[:, None, None]
    steered = steer(picture, mask, encoded("#1A8A40"), TRUE_LIGHT)
    assert np.allclose(steered[:, 8, 20], picture[:, 8, 20], atol=0.05)
    assert not np.allclose(steered[:, 24, 20], picture[:, 24, 20], atol=0.05)


def test_a_product_stays_without_a_colour_and_with_one_that_it_lacks() -> None:
    picture, mask = shown(0.7, 0.3, 0.3)
    for code in (None, "#00C800"):
        assert np.array_equal(steer(picture, mask, encoded(code), TRUE_LIGHT), picture)


@pytest.mark.parametrize("painted", [(0.85, 0.25, 0.2), (0.25, 0.3, 0.8)])
def test_no_part_of_many_colours_is_painted_like_another(painted: tuple[float, float, float]) -> None:
    """A grey roof with windows and stripes, each small, on a brown body that is small, too."""
    picture, mask = shown(0.6, 0.6, 0.62)
    for row, colour in enumerate([(0.3, 0.17, 0.1), (0.9, 0.75, 0.1), painted]):
        picture[:, 22 + 2 * row : 24 + 2 * row] = 2 * np.float32(colour)[:, None, None] - 1
    steered = steer(picture, mask, encoded("#5F3109"), TRUE_LIGHT)
    assert np.allclose(steered, picture, atol=0.05)


def test_a_product_of_one_colour_takes_no_opposite_colour() -> None:
    """The catalog may name the colour of a part that the snapshot does not show."""
    picture, mask = shown(0.36, 0.4, 0.5)
    picture[:, 10:14, 10:14] = picture[:, 5:6, 5:6]
    assert np.array_equal(steer(picture, mask, encoded("#91501C"), TRUE_LIGHT), picture)


def test_a_product_without_pixels_stays() -> None:
    picture, mask = shown(0.7, 0.3, 0.3)
    steered = steer(picture, np.zeros_like(mask), encoded("#B40000"), TRUE_LIGHT)
    assert np.array_equal(steered, picture)


def test_pixels_outside_the_mask_stay() -> None:
    picture, mask = shown(0.9, 0.25, 0.2)
    picture[:, 0] = np.float32([0.8, -0.5, -0.6])[:, None]
    steered = steer(picture, mask, encoded("#B40000"), TRUE_LIGHT)
    assert np.array_equal(steered[:, mask == 0], picture[:, mask == 0])
    assert not np.array_equal(steered, picture)
