"""Models on the Hugging Face Hub: a small server with its calls, and the layout of its cache."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from tests.hub_server import Hub
from tests.models import TinyFiles, tiny_model
from tests.servers import free_port
from toygan.artifact.files import CALIBRATION, ModelFiles, model_version
from toygan.errors import BadInput, ModelError
from toygan.registry.hub import HubReference, card, hub_reference, pinned, push, write_repository
from toygan.registry.models import read_extras, resolve

TO = HubReference(repo="shop/toys")
CARD = b"# toys\n\nSee [the code](../code.py), ![pictures](preview.png) and [LDraw](https://ldraw.org).\n"
EXTRAS = {"model_card.md": CARD, "preview.png": b"png"}


def as_files(tiny: TinyFiles) -> ModelFiles:
    return ModelFiles(name="toys", version=model_version(tiny.files), files=tiny.files)


@pytest.mark.service
def test_a_pushed_and_pulled_model_has_the_same_version(hub: Hub) -> None:
    model = as_files(tiny_model())
    push(model, EXTRAS, TO, private=True, licence="apache-2.0")
    for reference in ("hf:shop/toys", f"hf:shop/toys@{model.version}", "hf:shop/toys@main"):
        assert resolve(reference, None) == model
    repository = hub.repositories["shop/toys"]
    assert repository.private
    assert repository.messages[-1] == f"toys@{model.version}"
    assert pinned(TO) == f"hf:shop/toys@{repository.refs['main']}"
    assert set(hub.reads) == set(model.files)  # neither card nor pictures
    kept = repository.at("main")
    assert kept is not None
    assert b"license: apache-2.0" in kept[1]["README.md"]


@pytest.mark.service
def test_files_of_an_earlier_model_are_removed(hub: Hub) -> None:
    plain = as_files(tiny_model())
    more = {**plain.files, CALIBRATION: b"{}"}
    push(
        ModelFiles(name="toys", version=model_version(more), files=more), {}, TO, private=False, licence=None
    )
    push(plain, {}, TO, private=False, licence=None)
    push(plain, {}, TO, private=False, licence=None)
    assert resolve("hf:shop/toys", None) == plain
    assert resolve(f"hf:shop/toys@{model_version(more)}", None).files == more


@pytest.mark.service
def test_other_files_are_never_read(hub: Hub) -> None:
    model = as_files(tiny_model())
    push(model, {}, TO, private=False, licence=None)
    repository = hub.repositories["shop/toys"]
    files = dict(repository.commits[repository.refs["main"]])
    repository.commit({**files, "pytorch_model.bin": b"\x80", "modeling.py": b"1/0"}, "more")
    assert resolve("hf:shop/toys", None) == model
    repository.commit({**files, "generator.safetensors": b"\x80\x04pickle"}, "a pickle")
    with pytest.raises(ModelError, match="is a pickle, which could run any code, and was not opened"):
        resolve("hf:shop/toys", None)


@pytest.mark.service
def test_what_the_hub_refuses_is_one_line(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    model = as_files(tiny_model())
    push(model, {}, TO, private=True, licence=None)
    with pytest.raises(ModelError, match=r"^hf:shop/toys@v9: there is no such revision; leave the"):
        resolve("hf:shop/toys@v9", None)
    with pytest.raises(ModelError, match=r"^hf:shop/boats: the Hub shows no such model; check the name"):
        resolve("hf:shop/boats", None)
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(ModelError, match=r"^hf:shop/toys.*check the name; for a private model log in"):
        push(model, {}, TO, private=True, licence=None)


def test_a_model_is_read_from_the_cache_of_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model, commit = as_files(tiny_model()), "0123456789" * 4
    repository = tmp_path / "models--shop--toys"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for name, data in model.files.items():
        (snapshot / name).write_bytes(data)
    assert resolve("hf:shop/toys", None) == model
    assert resolve(f"hf:shop/toys@{commit}", None) == model
    with pytest.raises(ModelError, match=r"^hf:shop/boats: the Hub cannot be reached, and its cache has no"):
        resolve("hf:shop/boats", None)


@pytest.mark.parametrize("text", ["hf:toys", "hf:a/b/c", "hf:a/b@", "hf:../b", "hf:a/b@x y", "hf:"])
def test_a_malformed_reference_is_refused(text: str) -> None:
    with pytest.raises(ModelError, match=r"write hf:OWNER/NAME or hf:OWNER/NAME@REVISION"):
        hub_reference(text)


@pytest.mark.parametrize("text", ["hf:owner/x.git", "hf:owner/name-", "hf:owner/a--b"])
def test_a_name_that_the_hub_refuses_is_one_line(text: str) -> None:
    with pytest.raises(ModelError, match=f"^{text}: .*check the name"):
        resolve(text, None)


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(ModelError, match=r"^hf:shop/toys was not pushed: .*try again later"):
        push(as_files(tiny_model()), {}, TO, private=True, licence=None)


@pytest.mark.parametrize("folder", [".", ".."])
def test_a_folder_without_a_name_of_its_own_is_refused(folder: str) -> None:
    with pytest.raises(BadInput, match="give a new folder"):
        write_repository(as_files(tiny_model()), {}, Path(folder), licence=None)


def test_a_repository_is_written_to_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "toys"
    model = as_files(tiny_model())
    write_repository(model, EXTRAS, folder, licence=None)
    assert resolve(str(folder), None) == model
    assert read_extras(str(folder), model, None) == EXTRAS
    with pytest.raises(BadInput, match="is not empty; give a new folder"):
        write_repository(model, {}, folder, licence=None)


def test_the_card_has_a_header_and_no_dead_links() -> None:
    text = card(as_files(tiny_model()), EXTRAS, "cc-by-4.0")
    data = ModelCard(text).data
    assert (data.license, data.library_name, data.pipeline_tag) == ("cc-by-4.0", "toygan", "text-to-image")
    assert "See the code, ![pictures](preview.png) and [LDraw](https://ldraw.org)." in text
    assert f"--model hf:OWNER/toys@{as_files(tiny_model()).version}" in text
