import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.toygan.conditions.text_encoders import CPU, TINY_MAXIMUM, WORDS, raw
from tests.toygan.conditions.text_encoders import folder as folder
from tests.toygan.conditions.text_encoders import saved as saved
from toygan.conditions import text
from toygan.conditions.text import MAX_TOKENS, TextEncoder, pool
from toygan.conditions.text_bank import TextBank
from toygan.conditions.text_encoder_files import DEFAULT_TEXT_ENCODER
from toygan.errors import ModelError


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    return TextEncoder(DEFAULT_TEXT_ENCODER, CPU, cache=tmp_path_factory.mktemp("texts"))


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of all batches that any network was given."""
    sizes: list[int] = []
    forward = TextEncoder._forward

    def counting(self: TextEncoder, texts: Sequence[Sequence[int]], length: int) -> Any:
        sizes.append(len(texts))
        return forward(self, texts, length)

    monkeypatch.setattr(TextEncoder, "_forward", counting)
    return sizes


def test_the_packaged_encoder_reads_english_only(packaged: TextEncoder) -> None:
    assert [packaged.reads(language) for language in ("en", "en-GB", "EN", "zh", "eng")] == [
        *(True, True, True),
        *(False, False),
    ]


def test_the_packaged_encoder_knows_what_belongs_together(packaged: TextEncoder) -> None:
    hair, same_hair, wheel, tyre, nothing = packaged.encode(
        ["Minifig Hair, red", "Minifig Hair, black", "Car wheel", "Tyre for toy cars", None]
    )
    assert packaged.size == 384
    assert hair @ same_hair > 0.7
    assert wheel @ tyre > 0.4
    assert hair @ wheel < 0.2
    assert not nothing.any()


def test_rows_have_unit_length_and_no_gradient(packaged: TextEncoder) -> None:
    encoded = packaged.encode(["Car wheel", "", "x" * 5000, "红色小车"])
    assert (encoded.shape, encoded.dtype, encoded.device) == ((4, 384), torch.float32, CPU)
    torch.testing.assert_close(encoded.norm(dim=1), torch.ones(4))
    assert not encoded.requires_grad
    (encoded * torch.ones((), requires_grad=True)).sum().backward()  # an inference tensor would refuse
    assert packaged.encode([]).shape == (0, 384)


@pytest.mark.slow
def test_the_packaged_encoder_gives_what_its_makers_library_gives(packaged: TextEncoder) -> None:
    from sentence_transformers import SentenceTransformer

    texts = [
        "Minifig Hair, red",
        "Wheel Rim 14 x 18 with Holes on Both Sides, Red Wheel or tyre.",
        "brick " * 400,
    ]
    reference = SentenceTransformer(str(packaged._folder), device="cpu").encode(texts, convert_to_tensor=True)
    torch.testing.assert_close(packaged.encode(texts), reference.clone(), rtol=0, atol=1e-6)


def some_texts() -> list[str]:
    """40 texts in three buckets of lengths, some full to the last token."""
    return [" ".join(WORDS[:5][(each + word) % 5] for word in range(each)) for each in range(1, 39)] + [
        "",
        "red",
    ]


@pytest.mark.parametrize("name", [DEFAULT_TEXT_ENCODER, "tiny"])
@pytest.mark.slow
def test_a_row_does_not_depend_on_the_other_texts(name: str, saved: Path, tmp_path: Path) -> None:
    texts = some_texts()
    orders = [texts, texts[::-1], texts[::2] + texts[1::2], *([each] for each in texts[::6])]
    found: dict[str, set[bytes]] = {each: set() for each in texts}
    network = None
    for number, order in enumerate(orders):
        encoder = TextEncoder(str(saved) if name == "tiny" else name, CPU, cache=tmp_path / str(number))
        if network is not None:
            encoder.__dict__["_network"] = network
        for each, row in zip(order, encoder.encode(order), strict=True):
            found[each].add(raw(row))
        network = encoder._network
    assert {len(rows) for rows in found.values()} == {1}


def reference_states(folder: Path, text: str) -> Tensor:
    """The states of a text's own tokens, straight from Transformers, without padding: (T, 32)."""
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.no_grad():
        states: Tensor = model(**tokens).last_hidden_state[0]
    return states


@pytest.mark.parametrize(
    ("pooling", "over_tokens"),
    [
        (None, "mean"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode": "mean", "embedding_dimension": 32}, "mean"),
        ({"pooling_mode": ["cls"]}, "cls"),
    ],
)
def test_states_are_pooled_as_the_encoder_says(
    pooling: dict[str, Any] | None, over_tokens: str, folder: Path, tmp_path: Path
) -> None:
    if pooling is not None:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    encoder = TextEncoder(str(folder), CPU, cache=tmp_path / "texts")
    assert encoder.size == 32
    states = reference_states(folder, "two red cars with wheels")
    wanted = states.mean(dim=0) if over_tokens == "mean" else states[0]
    torch.testing.assert_close(encoder.encode(["two red cars with wheels"])[0], F.normalize(wanted, dim=0))


def test_padding_has_no_part_in_the_mean() -> None:
    states = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]], [[5.0, 5.0]] * 3])
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]])
    assert pool(states, mask, "mean").tolist() == [[2, 4], [0, 0]]
    assert pool(states, mask, "cls").tolist() == [[1, 2], [0, 0]]


def test_long_texts_are_cut(folder: Path, tmp_path: Path) -> None:
    encoder = TextEncoder(str(folder), CPU, cache=tmp_path)
    fits, *longer = encoder.encode(
        ["red " * (TINY_MAXIMUM - 2), "red " * 100, "red " * (TINY_MAXIMUM - 2) + "car"]
    )
    assert all(torch.equal(fits, each) for each in longer)
    assert not torch.equal(fits, encoder.encode(["red " * (TINY_MAXIMUM - 3)])[0])
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 4}')
    shorter = TextEncoder(str(folder), CPU, cache=tmp_path)
    assert torch.equal(*shorter.encode(["two red", "two red cars"]))
    assert shorter._network.max_tokens == 4 < encoder._network.max_tokens == TINY_MAXIMUM < MAX_TOKENS


def test_texts_are_blended_from_the_text_bank(saved: Path, tmp_path: Path) -> None:
    """Each text is blended alone, so the bytes of its row do not depend on the other texts."""
    encoder = TextEncoder(str(saved), CPU, cache=tmp_path)
    known = TextBank.of(encoder.encode(["red car", "blue car", "two wheels"]), 0.1)
    assert known is not None
    text_config = TextEncoder(str(saved), CPU, cache=tmp_path, known=known)
    texts = ["red", None, "two red cars", "red car"]
    found = text_config.encode(texts)
    torch.testing.assert_close(found, known.blend(encoder.encode(texts)))
    assert not found[1].any()
    for row, alone in enumerate(texts):
        assert raw(text_config.encode([alone])[0]) == raw(found[row])
    assert text_config.encode([]).shape == (0, encoder.size)
    other = TextBank(embeddings=torch.eye(7), temperature=0.1)
    with pytest.raises(ModelError, match=f"text bank has embeddings of 7 numbers.*{encoder.size}"):
        TextEncoder(str(saved), CPU, cache=tmp_path, known=other)


def test_every_distinct_text_is_embedded_once(saved: Path, tmp_path: Path, batches: list[int]) -> None:
    encoder = TextEncoder(str(saved), CPU, cache=tmp_path)
    done: list[int] = []
    twice = encoder.encode(["red car", None, "blue car", "red car"], done.append)
    assert torch.equal(twice[0], twice[3])
    assert batches == [2]
    assert done == [0, 2]
    assert raw(encoder.encode(["blue car", "wheel"], done.append)[0]) == raw(twice[2])
    assert batches == [2, 1]
    assert done == [0, 2, 1, 1]


def test_a_full_cache_needs_no_network(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = TextEncoder(str(saved), CPU, cache=tmp_path).encode(["red car", None])
    monkeypatch.setattr(text, "_load", None)
    again = TextEncoder(str(saved), CPU, cache=tmp_path)
    assert raw(again.encode([None, "red car"]).flip(0)) == raw(wanted)
    assert {each.name for each in tmp_path.iterdir()} == {
        f"{again.identity}.sqlite{end}" for end in ("", ".lock")
    }


def test_the_cache_is_the_users(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    encoder = TextEncoder(str(saved), CPU)
    encoder.encode(["red car"])
    assert (tmp_path / "toygan" / "texts" / f"{encoder.identity}.sqlite").is_file()


def test_without_a_cache_texts_are_embedded_again(saved: Path, tmp_path: Path, batches: list[int]) -> None:
    (tmp_path / "file").touch()
    encoder = TextEncoder(str(saved), CPU, cache=tmp_path / "file")
    assert raw(encoder.encode(["red car"])) == raw(encoder.encode(["red car"]))
    assert batches == [1, 1]


def test_kinds_of_devices_share_no_rows(saved: Path, tmp_path: Path, batches: list[int]) -> None:
    encoder = TextEncoder(str(saved), CPU, cache=tmp_path)
    encoder.encode(["red car"])
    other = TextEncoder(str(saved), torch.device("cuda"), cache=tmp_path)
    assert other._cache.read([other._key("red car")]) == {}
    assert encoder._cache.read([encoder._key("red car")])


def test_threads_share_an_encoder(saved: Path, tmp_path: Path, batches: list[int]) -> None:
    encoder = TextEncoder(str(saved), CPU, cache=tmp_path)
    texts = some_texts()
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(raw(encoder.encode(texts)))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1
    assert sum(batches) == len(set(texts))


_PROCESS = """
import sys
from pathlib import Path
import torch
from toygan.conditions.text import TextEncoder
encoder = TextEncoder(sys.argv[1], torch.device("cpu"), cache=Path(sys.argv[2]))
print(encoder.encode(sys.argv[3:]).numpy().tobytes().hex())
"""


@pytest.mark.service
def test_processes_share_a_cache(saved: Path, tmp_path: Path) -> None:
    texts = some_texts()
    command = [sys.executable, "-c", _PROCESS, saved, tmp_path, *texts]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate()[0].strip() for process in processes]
    encoder = TextEncoder(str(saved), CPU, cache=tmp_path)
    assert answers == [raw(encoder.encode(texts)).hex()] * 2
    assert "_network" not in encoder.__dict__
