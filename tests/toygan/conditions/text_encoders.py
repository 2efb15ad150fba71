"""Text encoders for tests."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

CPU = torch.device("cpu")


WORDS = ("red", "blue", "car", "wheel", "hair", "brick", "##s", "with", "two", "holes")


TINY_MAXIMUM = 40  # tokens


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of 32 numbers, as `save_pretrained` writes it."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("encoders") / "tiny"
    vocabulary = {
        word: row for row, word in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS))
    }
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=TINY_MAXIMUM,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    BertTokenizer(vocab=vocabulary).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """A copy of the tiny encoder that a test may change."""
    return Path(shutil.copytree(saved, tmp_path / "tiny"))


def raw(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()
