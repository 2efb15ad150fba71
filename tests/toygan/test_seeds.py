"""Expected digests come from `printf 'a\\x1fb...' | sha256sum`."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from toygan.seeds import image_id, image_seed, latent

TEXT = st.text(alphabet=st.characters(exclude_characters="\x1f", exclude_categories=["Cs"]), max_size=20)
COUNT = st.integers(0, 2**31 - 1)


def test_the_id_is_the_head_of_the_digest_of_the_whole_key() -> None:
    assert image_id("3001-red", 0, 2, "toybricks", "1", "abc") == "1174c4d7e1bcee0f50bd"


def test_the_seed_is_the_first_63_bits_of_the_digest_without_the_row() -> None:
    assert image_seed("3001-red", 0, 2, "toybricks", "1") == 0x5690F47601DC53F8 >> 1


@given(TEXT, COUNT, COUNT, TEXT, TEXT, TEXT)
def test_ids_and_seeds_fit_their_columns(
    sku: str, index: int, attempt: int, model: str, version: str, fingerprint: str
) -> None:
    name = image_id(sku, index, attempt, model, version, fingerprint)
    assert len(name) == 20
    assert set(name) <= set("0123456789abcdef")
    assert 0 <= image_seed(sku, index, attempt, model, version) < 2**63


@pytest.mark.parametrize("changed", range(6))
def test_every_part_of_the_key_makes_another_picture(changed: int) -> None:
    key = ["sku", 1, 2, "model", "3", "fingerprint"]
    other = list(key)
    other[changed] = 7 if isinstance(key[changed], int) else "other"
    assert image_id(*key) != image_id(*other)
    if changed < 5:
        assert image_seed(*key[:5]) != image_seed(*other[:5])


def test_parts_do_not_run_together() -> None:
    assert image_id("a", 1, 11, "m", "v", "f") != image_id("a", 11, 1, "m", "v", "f")
    assert image_seed("a1", 1, 1, "m", "v") != image_seed("a", 11, 1, "m", "v")


@given(st.integers(0, 2**63 - 1), st.integers(1, 64))
def test_latents_follow_from_the_seed_alone(seed: int, size: int) -> None:
    first = latent(seed, size)
    np.random.seed(1)
    torch.manual_seed(1)
    assert first.shape == (size,)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, latent(seed, size))


def test_seeds_that_share_their_low_32_bits_do_not_share_latents() -> None:
    assert not np.array_equal(latent(5, 8), latent(5 + (1 << 32), 8))
    assert not np.array_equal(latent(5, 8), latent(5 + (1 << 62), 8))


def test_latents_are_standard_normal() -> None:
    values = np.concatenate([latent(seed, 128) for seed in range(500)])
    # 64,000 values: the standard error of the mean is 1/253, that of the variance sqrt(2)/253.
    assert abs(values.mean()) < 4 / 253
    assert abs(values.var() - 1) < 4 * 2**0.5 / 253
