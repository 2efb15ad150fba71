"""Model versions: what they are made of, how they are found, and what is refused."""

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.toygan.registry.stored_models import bundled as bundled
from tests.toygan.registry.stored_models import model_folder, weights
from tests.toygan.registry.stored_models import store as store
from tests.toygan.registry.stored_models import toys as toys
from toygan.artifact.files import REQUIRED, TEXT_BANK, VERSIONED, WEIGHTS, model_version, read_folder
from toygan.errors import ModelError
from toygan.registry.models import add_model, find_default, is_bundled, list_models, resolve
from toygan.registry.promotion import promote
from toygan.storage.memory import MemoryStore


def test_a_version_follows_content_and_nothing_else(tmp_path: Path) -> None:
    one = read_folder(model_folder(tmp_path / "one"))
    assert model_version(dict(reversed(one.items()))) == model_version(one)
    assert model_version({**one, "model_card.md": b"# Toys"}) == model_version(one)
    for name in [*one, "calibration.json"]:
        assert model_version({**one, name: b"other"}) != model_version(one)
    swapped = {**one, "generator.safetensors": one["discriminator.safetensors"]}
    swapped["discriminator.safetensors"] = one["generator.safetensors"]
    assert model_version(swapped) != model_version(one)


def test_a_version_can_be_made_with_sha256sum_alone() -> None:
    """Worked out in a shell: one line `name\\x1fsha256` a file, sorted by name, then that of the lines."""
    files = {"generator.safetensors": b"g", "discriminator.safetensors": b"d", "config.json": b"{}"}
    assert model_version(files) == "489f98725ec5"


def test_a_model_goes_into_the_store_and_comes_back(store: MemoryStore, toys: Path) -> None:
    (toys / "model_card.md").write_text("# Toys")
    (toys / "secrets.txt").write_text("not part of a model")
    version = add_model(store, toys, "toys")
    assert {info.key.removeprefix(f"models/toys/{version}/") for info in store.list()} == {
        *("config.json", "generator.safetensors", "discriminator.safetensors", "calibration.json"),
        *("text_bank.safetensors", "model_card.md"),
    }
    model = resolve("toys", store)
    assert (model.name, model.version) == ("toys", version)
    assert model.files == read_folder(toys)
    assert add_model(store, toys, "toys") == version


def test_models_are_listed_with_their_aliases(store: MemoryStore, tmp_path: Path, toys: Path) -> None:
    first = add_model(store, toys, "toys")
    second = add_model(store, model_folder(tmp_path / "b", 2.0, calibrated=False), "toys")
    add_model(store, toys, "bricks")
    promote(store, "toys", first)
    promote(store, "toys", first, alias="fallback")
    listed = {(model.name, model.version): model for model in list_models(store)}
    assert list(listed) == sorted([("bricks", first), ("toys", first), ("toys", second)])
    assert listed["toys", first].aliases == ("champion", "fallback")
    assert listed["toys", first].calibrated
    assert not listed["toys", second].calibrated
    assert listed["toys", first].total_bytes == sum(path.stat().st_size for path in toys.iterdir())


def test_a_version_that_is_not_whole_yet_is_not_listed(store: MemoryStore, toys: Path) -> None:
    version = add_model(store, toys, "toys")
    store.delete(f"models/toys/{version}/config.json")
    assert list_models(store) == []
    with pytest.raises(ModelError, match="no model 'toys'"):
        resolve("toys", store)


def test_no_reference_means_the_champion_or_else_the_bundled_model(
    store: MemoryStore, toys: Path, bundled: Path
) -> None:
    assert resolve(None, None).name == "starter"
    assert resolve(None, store).name == "starter"
    version = add_model(store, toys, "toys")
    assert resolve(None, store).name == "starter"
    promote(store, "toys", version)
    assert resolve(None, store).version == version
    assert resolve(None, None).name == "starter"


def test_a_bundled_model_is_known_from_others_of_its_name(
    store: MemoryStore, toys: Path, bundled: Path
) -> None:
    assert is_bundled(resolve("starter", None))
    version = add_model(store, toys, "starter")
    assert not is_bundled(resolve(f"starter@{version}", store))
    assert find_default(store, may_be_bundled=False) is None
    promote(store, "starter", version)
    found = find_default(store, may_be_bundled=False)
    assert found is not None
    assert found.version == version


def test_without_a_bundled_model_a_name_is_asked_for(store: MemoryStore, bundled: Path) -> None:
    model_folder(bundled / "second")
    with pytest.raises(ModelError, match="bundles several models: second, starter; name one"):
        resolve(None, store)


def test_bundled_models_have_names_and_versions_too(store: MemoryStore, toys: Path, bundled: Path) -> None:
    starter = resolve("starter", store)
    assert resolve(f"starter@{starter.version}", None) == starter
    with pytest.raises(ModelError, match=r"starter \(bundled\)"):
        resolve("starter@000000000000", None)
    version = add_model(store, toys, "starter")
    assert resolve("starter", store).version == version
    assert resolve(f"starter@{starter.version}", store) == starter


def test_a_name_alone_must_be_clear(store: MemoryStore, tmp_path: Path) -> None:
    versions = [add_model(store, model_folder(tmp_path / str(value), value), "toys") for value in (1.0, 2.0)]
    with pytest.raises(ModelError, match="2 versions of toys") as caught:
        resolve("toys", store)
    assert all(version in str(caught.value) for version in versions)
    assert resolve(f"toys@{versions[0]}", store).version == versions[0]
    promote(store, "toys", versions[1])
    assert resolve("toys", store).version == versions[1]


def test_a_folder_is_a_model(tmp_path: Path, toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for reference in ("./toys", str(toys), "toys/../toys"):
        model = resolve(reference, None)
        assert (model.name, model.version) == ("toys", model_version(model.files))
    monkeypatch.chdir(toys)
    assert resolve(".", None).name == "toys"
    with pytest.raises(ModelError, match=r"no model 'toys'.*as \./FOLDER"):
        resolve("toys", None)
    with pytest.raises(ModelError, match="no such folder"):
        resolve("./nowhere", None)
    with pytest.raises(ModelError, match="rename the folder"):
        resolve(str(model_folder(tmp_path / "my toys")), None)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("cars", "no model 'cars'.*toys@"),
        ("toys@000000000000", "no model 'toys@000000000000'"),
        ("toys@nobody", "no model 'toys@nobody'"),
        ("cars@champion", "'champion' stands for toys@"),
        ("", "no model ''"),
        ("@", "no model '@'"),
    ],
)
def test_the_error_for_an_unknown_model_names_the_known_ones(
    reference: str, message: str, store: MemoryStore, toys: Path, bundled: Path
) -> None:
    promote(store, "toys", add_model(store, toys, "toys"))
    with pytest.raises(ModelError, match=message):
        resolve(reference, store)


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.witness}",)


def zipped(data: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    return sink.getvalue()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("wrap", [bytes, zipped], ids=["bare", "as torch.save does"])
def test_a_pickle_is_refused_unopened(
    protocol: int, wrap: Callable[[bytes], bytes], toys: Path, tmp_path: Path, store: MemoryStore
) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"), protocol)
    (toys / "generator.safetensors").write_bytes(wrap(bomb))
    for call in (lambda: resolve(str(toys), None), lambda: add_model(store, toys, "toys")):
        with pytest.raises(ModelError, match=r"generator\.safetensors.*safetensors"):
            call()
    assert not (tmp_path / "exploded").exists()
    assert list(store.list()) == []


@pytest.mark.parametrize(
    "size", [0, 7, 20, -1], ids=["empty", "no header", "half a header", "one byte short"]
)
@pytest.mark.parametrize("name", [*WEIGHTS, TEXT_BANK])
def test_a_truncated_file_is_named(name: str, size: int, toys: Path, store: MemoryStore) -> None:
    version = add_model(store, toys, "toys")
    (toys / name).write_bytes((toys / name).read_bytes()[:size])
    with pytest.raises(ModelError, match=f"{name} is not a whole safetensors file.*copy"):
        resolve(str(toys), None)
    store.put(f"models/toys/{version}/{name}", (toys / name).read_bytes())
    with pytest.raises(ModelError, match=f"{version}: {name} is not a whole safetensors file"):
        resolve("toys", store)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_file_is_named(name: str, toys: Path, store: MemoryStore) -> None:
    (toys / name).unlink()
    for call in (lambda: resolve(str(toys), None), lambda: add_model(store, toys, "toys")):
        with pytest.raises(ModelError, match=f"{name} is missing"):
            call()


@pytest.mark.parametrize("name", ["config.json", "calibration.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\ufffd\x00"])
def test_json_that_is_none_is_named(name: str, text: str, toys: Path) -> None:
    (toys / name).write_text(text)
    with pytest.raises(ModelError, match=f"{name} is (not|a) JSON"):
        resolve(str(toys), None)


@pytest.mark.parametrize("name", VERSIONED)
def test_bytes_that_are_not_those_of_the_version_are_refused(
    name: str, toys: Path, tmp_path: Path, store: MemoryStore
) -> None:
    """Each file is whole, but of another model: swapped, or left over from an older one."""
    version = add_model(store, toys, "toys")
    other = weights(5.0) if name.endswith(".safetensors") else b'{"family": "mlp"}'
    store.put(f"models/toys/{version}/{name}", other)
    with pytest.raises(ModelError, match="the digest of the files is not this version"):
        resolve("toys", store)
    with pytest.raises(ModelError, match="the digest of the files is not this version"):
        promote(store, "toys", version)


def test_a_calibration_that_is_lost_is_noticed(toys: Path, store: MemoryStore) -> None:
    version = add_model(store, toys, "toys")
    store.delete(f"models/toys/{version}/calibration.json")
    with pytest.raises(ModelError, match="the digest of the files is not this version"):
        resolve("toys", store)


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"champion": {}}', '{"champion": []}', '{"champion": {"name": "a", "version": "b"}}'],
)
def test_damaged_aliases_are_named(content: str, store: MemoryStore) -> None:
    store.put("models/aliases.json", content.encode())
    with pytest.raises(ModelError, match=r"models/aliases\.json"):
        resolve(None, store)


def test_the_aliases_are_plain_json(store: MemoryStore, tmp_path: Path) -> None:
    one, two = (add_model(store, model_folder(tmp_path / str(value), value), "toys") for value in (1.0, 2.0))
    promote(store, "toys", one)
    promote(store, "toys", two)
    assert json.loads(store.get("models/aliases.json")) == {
        "champion": {"name": "toys", "version": two, "history": [{"name": "toys", "version": one}]}
    }


@pytest.mark.service
def test_the_registry_needs_no_torch() -> None:
    code = "import toygan.models, sys; sys.exit('torch' in sys.modules or 'boto3' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
