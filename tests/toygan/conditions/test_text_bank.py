from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from toygan.conditions import text_bank
from toygan.conditions.text_bank import TextBank
from toygan.errors import ModelError

CAR, TREE = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])


def known(*embeddings: Tensor, temperature: float = 0.1) -> TextBank:
    return TextBank(embeddings=torch.cat(embeddings), temperature=temperature)


def units(seed: int, count: int) -> Tensor:
    rows = torch.randn((count, 5), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


def test_weights_by_hand() -> None:
    """Minus the mean (1/2, 1/2), the bank's two texts are opposite: cosines 1 and -1 to the first.

    With the temperature 2 / ln 3 its weight is exp(2 / temperature) = 3 times that of the other.
    """
    read = known(CAR, TREE, temperature=2 / log(3)).blend(torch.cat([CAR, TREE, torch.zeros(1, 2)]))
    torch.testing.assert_close(read, torch.tensor([[0.75, 0.25], [0.25, 0.75], [0.0, 0.0]]))


def test_a_low_temperature_reads_the_nearest() -> None:
    new = torch.tensor([[0.8, 0.6]])
    torch.testing.assert_close(known(CAR, TREE, temperature=1e-3).blend(new), CAR)
    torch.testing.assert_close(
        known(CAR, TREE, temperature=1e3).blend(new), (CAR + TREE) / 2, atol=1e-2, rtol=0
    )


def test_texts_that_are_left_out_weigh_nothing() -> None:
    texts = torch.cat([CAR, CAR, CAR])
    kept = torch.tensor([[False, True], [True, False], [False, False]])
    both = known(CAR, TREE)
    read = both.blend(texts, kept)
    torch.testing.assert_close(read[:2], torch.cat([TREE, CAR]))
    torch.testing.assert_close(read[2:], both.blend(CAR))  # with none left nothing is left out


@given(seed=st.integers(0, 10_000), count=st.integers(1, 9), temperature=st.floats(0.01, 10))
def test_a_mean_of_text_bank_whatever_their_order(seed: int, count: int, temperature: float) -> None:
    embeddings, texts = units(seed, count), units(seed + 1, 3)
    read = known(embeddings, temperature=temperature).blend(texts)
    assert (read <= embeddings.amax(0) + 1e-5).all()
    assert (read >= embeddings.amin(0) - 1e-5).all()
    turned = known(embeddings.flip(0), temperature=temperature).blend(texts)
    torch.testing.assert_close(turned, read, atol=1e-4, rtol=0)


def test_distinct_texts_are_kept_once(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = torch.cat([CAR, torch.zeros(1, 2), TREE, CAR])
    found = TextBank.of(texts, 0.1)
    assert found is not None
    assert sorted(found.embeddings.tolist()) == [[0.0, 1.0], [1.0, 0.0]]
    assert TextBank.of(torch.zeros(3, 2), 0.1) is None
    monkeypatch.setattr(text_bank, "MOST_KNOWN", 3)
    many = TextBank.of(units(0, 40), 0.1)
    assert many is not None
    assert many.embeddings.shape == (3, 5)


def test_a_file_holds_what_training_had() -> None:
    found = TextBank.of(units(0, 7), 0.05)
    assert found is not None
    read = TextBank.from_file(found.to_file(), 0.05)
    assert torch.equal(read.embeddings, found.embeddings)
    assert torch.equal(read.blend(units(1, 2)), found.blend(units(1, 2)))


@pytest.mark.parametrize(
    ("content", "temperature", "message"),
    [
        (b"", 0.1, "cannot be read"),
        (save({"texts": CAR}), 0.1, "cannot be read"),
        (save({"embeddings": CAR[0]}), 0.1, r"shape \(2,\)"),
        (save({"embeddings": CAR[:0]}), 0.1, r"shape \(0, 2\)"),
        (save({"embeddings": CAR / 0}), 0.1, "not finite"),
        (save({"embeddings": CAR}), 0, "must be above 0"),
        (save({"embeddings": CAR}), float("nan"), "must be above 0"),
        (save({"embeddings": CAR}), "0.1", "must be a number"),
        (save({"embeddings": CAR}), True, "must be a number"),
    ],
)
def test_unusable_ones_are_refused(content: bytes, temperature: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        TextBank.from_file(content, temperature)
