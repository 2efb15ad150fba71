"""Promotes models, and goes back to earlier ones."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.models import config_json
from tests.servers import fresh_bucket
from tests.toygan.registry.stored_models import bundled as bundled
from tests.toygan.registry.stored_models import model_folder
from tests.toygan.registry.stored_models import store as store
from tests.toygan.registry.stored_models import toys as toys
from toygan.errors import BadInput, ModelError
from toygan.registry.aliases import ModelRef, read_aliases
from toygan.registry.models import add_model, find_default, is_bundled, resolve
from toygan.registry.promotion import promote, rollback
from toygan.storage.memory import MemoryStore
from toygan.storage.open_store import open_store


def test_promote_and_rollback(store: MemoryStore, tmp_path: Path) -> None:
    versions = [
        add_model(store, model_folder(tmp_path / str(value), value), "toys") for value in (1.0, 2.0, 3.0)
    ]
    for version in [*versions, versions[2]]:
        promote(store, "toys", version)
    promote(store, "toys", versions[0], alias="challenger")
    assert resolve(None, store).version == versions[2]
    assert resolve("toys@challenger", store).version == versions[0]
    assert resolve("challenger", store).version == versions[0]
    for version in (versions[1], versions[0]):
        assert rollback(store) == ModelRef(name="toys", version=version)
        assert resolve(None, store).version == version
    for alias in ("challenger", "nobody"):
        with pytest.raises(ModelError, match="no earlier model"):
            rollback(store, alias)
    assert read_aliases(store)["challenger"].now.version == versions[0]


def test_a_model_that_is_not_calibrated_is_no_champion(store: MemoryStore, tmp_path: Path) -> None:
    """No night could approve its pictures. Another alias does not serve nights."""
    version = add_model(store, model_folder(tmp_path / "toys", calibrated=False), "toys")
    with pytest.raises(ModelError, match=f"toys@{version} cannot be the champion, .* `toygan calibrate`"):
        promote(store, "toys", version)
    assert read_aliases(store) == {}
    assert promote(store, "toys", version, alias="challenger")[0] == "challenger"


def test_going_back_from_the_first_model_leads_to_the_bundled_one(
    store: MemoryStore, toys: Path, bundled: Path
) -> None:
    starter = resolve("starter", None)
    promote(store, "toys", add_model(store, toys, "toys"))
    assert rollback(store) == ModelRef(name="starter", version=starter.version)
    assert resolve(None, store) == starter
    assert is_bundled(resolve(None, store))
    assert read_aliases(store) == {}
    with pytest.raises(ModelError, match="no earlier model"):
        rollback(store)


def test_going_back_from_the_first_sketch_model_leads_to_what_drew_before(
    store: MemoryStore, toys: Path, bundled: Path, tmp_path: Path
) -> None:
    def sketch_model(folder: Path, value: float) -> Path:
        model_folder(folder, value)
        (folder / "config.json").write_bytes(config_json("pix2pix", {"categories": 3}))
        return folder

    sketcher = resolve(str(sketch_model(bundled / "sketcher", 3.0)), None)
    own = add_model(store, sketch_model(tmp_path / "own", 4.0), "own")
    assert promote(store, "own")[0] == "champion-sketch"
    assert rollback(store, "champion-sketch") == ModelRef(name="sketcher", version=sketcher.version)
    promote(store, "own", own)
    promote(store, "toys", add_model(store, toys, "toys"))
    assert rollback(store, "champion-sketch") is None  # the shop's own champion serves alone
    assert find_default(store, "sketch", may_be_bundled=False) is None


def test_a_bundled_model_is_promoted_by_its_name(store: MemoryStore, toys: Path, bundled: Path) -> None:
    (bundled / "starter" / "model_card.md").write_text("# Starter")
    starter = ModelRef(name="starter", version=resolve("starter", None).version)
    promote(store, "toys", add_model(store, toys, "toys"))
    assert promote(store, "starter") == ("champion", starter)
    assert promote(store, "starter", starter.version) == ("champion", starter)
    assert is_bundled(resolve(None, store))
    assert store.get(f"models/starter/{starter.version}/model_card.md") == b"# Starter"
    assert rollback(store).name == "toys"  # type: ignore[union-attr]
    other = add_model(store, toys, "starter")
    with pytest.raises(ModelError, match=f"2 versions of starter in .* give one of .*starter@{other}"):
        promote(store, "starter")


def test_a_bundled_model_that_cannot_have_the_alias_is_not_copied(store: MemoryStore, bundled: Path) -> None:
    with pytest.raises(ModelError, match="cannot be the champion-sketch"):
        promote(store, "starter", alias="champion-sketch")
    assert list(store.list()) == []


def test_threads_that_promote_at_the_same_time_lose_no_alias(store: MemoryStore, toys: Path) -> None:
    version = add_model(store, toys, "toys")
    aliases = [f"alias-{number}" for number in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda alias: promote(store, "toys", version, alias), aliases))
    assert sorted(read_aliases(store)) == sorted(aliases)


PROMOTE = """
import sys
from toygan.registry.promotion import promote
from toygan.storage.open_store import open_store

uri, version, name, count = sys.argv[1:]
store = open_store(uri)
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(count)):
    promote(store, "toys", version, f"{name}-{number}")
"""


@pytest.mark.parametrize("kind", ["folder", "moto"])
@pytest.mark.service
def test_processes_that_promote_at_the_same_time_lose_no_alias(
    kind: str, tmp_path: Path, toys: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    uri = str(tmp_path / "store")
    if kind == "moto":
        uri = fresh_bucket(request.getfixturevalue("moto"), monkeypatch)
    store = open_store(uri)
    version = add_model(store, toys, "toys")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": REPOSITORY}
    others = [
        subprocess.Popen([sys.executable, "-c", PROMOTE, uri, version, name, "12"], **pipes) for name in "abc"
    ]
    for other in others:
        assert other.stdout.readline() == "ready\n"
    for other in others:
        other.stdin.write("\n")
        other.stdin.flush()
    assert [other.wait(300) for other in others] == [0, 0, 0]
    assert sorted(read_aliases(store)) == sorted(f"{name}-{number}" for name in "abc" for number in range(12))


class ChangedMeanwhile(MemoryStore):
    """A store in which somebody else does something just before the first conditional put."""

    def __init__(self) -> None:
        super().__init__()
        self.work: Callable[[], object] | None = None

    def put_if(self, key: str, data: bytes, version: str | None, **options: str) -> str:
        if self.work is not None:
            work, self.work = self.work, None
            work()
        return super().put_if(key, data, version, **options)


def test_going_back_at_the_same_time_goes_back_once(tmp_path: Path) -> None:
    store = ChangedMeanwhile()
    versions = [
        add_model(store, model_folder(tmp_path / str(value), value), "toys") for value in (1.0, 2.0, 3.0)
    ]
    for version in versions:
        promote(store, "toys", version)
    store.work = lambda: rollback(store)
    assert rollback(store).version == versions[1]
    assert read_aliases(store)["champion"].now.version == versions[1]

    store.work = lambda: promote(store, "toys", versions[2], alias="challenger")
    assert rollback(store).version == versions[0]
    assert read_aliases(store)["challenger"].now.version == versions[2]


def test_going_back_from_a_model_that_is_the_champion_no_more_is_refused(tmp_path: Path) -> None:
    store = ChangedMeanwhile()
    versions = [
        add_model(store, model_folder(tmp_path / str(value), value), "toys") for value in (1.0, 2.0, 3.0)
    ]
    for version in versions[:2]:
        promote(store, "toys", version)
    store.work = lambda: promote(store, "toys", versions[2])
    with pytest.raises(ModelError, match="has changed the alias"):
        rollback(store)
    assert read_aliases(store)["champion"].now.version == versions[2]


def test_the_history_of_an_alias_does_not_grow_for_ever(store: MemoryStore, tmp_path: Path) -> None:
    versions = [add_model(store, model_folder(tmp_path / str(value), value), "toys") for value in (1.0, 2.0)]
    for turn in range(50):
        promote(store, "toys", versions[turn % 2])
    assert len(read_aliases(store)["champion"].history) == 20


def test_only_what_is_in_the_store_is_promoted(store: MemoryStore, toys: Path) -> None:
    version = add_model(store, toys, "toys")
    for name, wanted in (("toys", "0" * 12), ("cars", version), ("toys", "latest"), ("../toys", version)):
        with pytest.raises(ModelError):
            promote(store, name, wanted)
    for alias in ("", "a b", "../x", "0123456789ab"):
        with pytest.raises(BadInput, match="alias"):
            promote(store, "toys", version, alias=alias)
    assert read_aliases(store) == {}
