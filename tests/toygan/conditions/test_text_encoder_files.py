"""The files of text encoders: changed, damaged, missing, on the Hub."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.toygan.conditions.text_encoders import CPU, raw
from tests.toygan.conditions.text_encoders import folder as folder
from tests.toygan.conditions.text_encoders import saved as saved
from toygan.conditions.text import TextEncoder
from toygan.errors import ModelError


def _change_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _change_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["embeddings.LayerNorm.bias"] += 1
    save_file(weights, path, metadata={"format": "pt"})


CHANGES: dict[str, Callable[[Path], object]] = {
    "weights": _change_weights,
    "config": lambda folder: _change_json(folder / "config.json", hidden_act="relu"),
    "tokenizer": lambda folder: _change_json(folder / "tokenizer_config.json", do_lower_case=False),
    "pooling": lambda folder: (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 8}'),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_encoder_is_refused(change: str, folder: Path, tmp_path: Path, saved: Path) -> None:
    before = TextEncoder(str(folder), CPU, cache=tmp_path)
    stated = json.loads(json.dumps(before.to_json()))
    again = TextEncoder.from_json(stated, CPU)
    assert (again.name, again.identity) == (str(folder), before.identity)
    CHANGES[change](folder)
    changed = TextEncoder(str(folder), CPU, cache=tmp_path)
    assert changed.identity != before.identity
    with pytest.raises(ModelError, match=f"{before.identity[:12]}, but now .* is {changed.identity[:12]}"):
        TextEncoder.from_json(stated, CPU)


def test_an_encoder_is_its_content_not_its_place(saved: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "README.md").write_text("moved and described")
    moved = TextEncoder(str(folder), CPU, cache=tmp_path)
    assert moved.identity == TextEncoder(str(saved), CPU, cache=tmp_path).identity
    assert len(bytes.fromhex(moved.identity)) == 32


@pytest.mark.parametrize(
    "stated", [{"name": "tiny"}, {"identity": "0"}, {"name": 1, "identity": "0"}, "tiny"]
)
def test_what_states_no_encoder(stated: Any, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved.parent)
    with pytest.raises((KeyError, TypeError)):
        TextEncoder.from_json(stated, CPU)


@pytest.fixture
def offline_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder where downloads of the hub are kept, without a way to the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_an_encoder_of_the_hub(saved: Path, offline_hub: Path, tmp_path: Path) -> None:
    commit = "0" * 40
    repository = offline_hub / "models--makers--tiny"
    shutil.copytree(saved, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    encoder = TextEncoder("makers/tiny", CPU, cache=tmp_path)
    local = TextEncoder(str(saved), CPU, cache=tmp_path)
    assert (encoder.name, encoder.identity) == ("makers/tiny", local.identity)
    assert raw(encoder.encode(["red car"])) == raw(local.encode(["red car"]))


@pytest.mark.parametrize(
    "name", ["makers/unheard-of", "unheard-of", "/no/such/folder", "../no-such-folder", "a/b/c", "\0"]
)
def test_an_encoder_that_is_nowhere(name: str, offline_hub: Path) -> None:
    with pytest.raises(
        ModelError, match=r"there is no folder .* name a folder .* all-MiniLM-L6-v2, which needs no"
    ):
        TextEncoder(name, CPU)


def _only_a_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _no_words(folder: Path) -> None:
    for path in (*folder.glob("vocab*"), *folder.glob("tokenizer.json")):
        path.unlink()


def _pool_by_maximum(folder: Path) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode_max_tokens": true}')


UNFIT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda folder: (folder / "config.json").unlink(), r"lacks config\.json"),
    "a pickle": (_only_a_pickle, r"lacks model\.safetensors \(other formats may run code"),
    "no tokenizer": (_no_words, "lacks a tokenizer"),
    "no JSON": (lambda folder: (folder / "config.json").write_text("{"), r"config\.json is not JSON"),
    "no object": (lambda folder: (folder / "config.json").write_text("[]"), "is not a JSON object"),
    "no size": (lambda folder: (folder / "config.json").write_text("{}"), "is not a text encoder"),
    "a decoder": (
        lambda folder: _change_json(folder / "config.json", is_encoder_decoder=True),
        "is not a text enc",
    ),
    "other pooling": (
        _pool_by_maximum,
        "pools by pooling_mode_max_tokens; take an encoder that pools by mean or cls",
    ),
}


@pytest.mark.parametrize("reason", UNFIT)
def test_an_unfit_folder_is_refused_at_once(reason: str, folder: Path) -> None:
    spoil, message = UNFIT[reason]
    spoil(folder)
    with pytest.raises(ModelError, match=message):
        TextEncoder(str(folder), CPU)


def _cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _infinite_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["embeddings.LayerNorm.bias"][0] = torch.inf
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _more_words(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["unheard"] = len(tokenizer["model"]["vocab"])
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut weights": (_cut_weights, "cannot be read .* get its files again"),
    "tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_text('{"version": "1.0"}'),
        "cannot be read",
    ),
    "a layer short": (
        lambda folder: _change_json(folder / "config.json", num_hidden_layers=3),
        r"weights of the text encoder .* lack encoder\.layer\.2\.",
    ),
    "kind": (lambda folder: _change_json(folder / "config.json", model_type="unheard"), "cannot be read"),
    "not finite": (_infinite_weights, "gives no finite numbers"),
    "more words": (_more_words, "knows more tokens than the network"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_encoder_is_refused_when_it_is_loaded(damage: str, folder: Path, tmp_path: Path) -> None:
    spoil, message = DAMAGED[damage]
    spoil(folder)
    encoder = TextEncoder(str(folder), CPU, cache=tmp_path / "texts")
    with pytest.raises(ModelError, match=message):
        encoder.encode(["red car"])


def test_code_that_comes_with_an_encoder_is_not_run(folder: Path, tmp_path: Path) -> None:
    _change_json(
        folder / "config.json", model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModel": "own.Net"}
    )
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ModelError, match="cannot be read"):
        TextEncoder(str(folder), CPU, cache=tmp_path / "texts").encode(["red car"])
    assert not (tmp_path / "ran").exists()


def test_a_missing_pooler_is_no_loss_and_loading_is_silent(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wanted = TextEncoder(str(folder), CPU, cache=tmp_path / "with").encode(["red car"])
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("pooler.")}
    assert len(kept) < len(weights)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    capfd.readouterr()
    torch.manual_seed(3)
    assert raw(TextEncoder(str(folder), CPU, cache=tmp_path / "without").encode(["red car"])) == raw(wanted)
    assert capfd.readouterr() == ("", "")
    following = torch.rand(1)
    torch.manual_seed(3)
    assert torch.rand(1) == following


def test_training_in_bfloat16_does_not_change_texts(saved: Path, tmp_path: Path) -> None:
    wanted = TextEncoder(str(saved), CPU, cache=tmp_path / "plain").encode(["red car"])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = TextEncoder(str(saved), CPU, cache=tmp_path / "autocast").encode(["red car"])
    assert raw(found) == raw(wanted)


_LIGHT = """
import sys
from pathlib import Path
import torch
from toygan.conditions.text import TextEncoder
from toygan.conditions.text_encoder_files import DEFAULT_TEXT_ENCODER
TextEncoder(DEFAULT_TEXT_ENCODER, torch.device("cpu"), cache=Path(sys.argv[1])).encode([None])
print(sorted({"transformers", "sentence_transformers", "huggingface_hub"} & sys.modules.keys()))
"""


@pytest.mark.service
def test_transformers_is_imported_only_for_new_texts(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-c", _LIGHT, tmp_path], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
