"""What a retraining leaves in the store, and that no crash on the way does harm."""

import json
from pathlib import Path

import pytest

from tests.models import CATEGORIES, tiny_model
from tests.toygan.retraining.shop import begun, champion_of, upload_enough
from toygan.artifact.config import config_of
from toygan.artifact.files import LAYOUT_BANK
from toygan.errors import ModelError
from toygan.registry.aliases import ModelRef, read_aliases
from toygan.registry.models import CHAMPION, resolve
from toygan.registry.promotion import rollback, succeed
from toygan.retraining.comparison import CHAMPIONS_LAYOUTS, VERDICT, read_outcome
from toygan.retraining.decide import Rule
from toygan.retraining.plan import Attempt
from toygan.retraining.publish import CHALLENGER, publish
from toygan.storage.memory import MemoryStore
from toygan.uploads.retrained import read_retrained

NEW = tiny_model(seed=7)
NEW_REF = ModelRef(name="tiny", version=NEW.version)


class Dying(MemoryStore):
    """A store that the process does not live to write to more often than so."""

    writes_left = 10_000

    def put(self, key: str, data: bytes, *, content_type: str = "application/octet-stream") -> None:
        self._count()
        super().put(key, data, content_type=content_type)

    def put_if(
        self, key: str, data: bytes, version: str | None, *, content_type: str = "application/octet-stream"
    ) -> str:
        self._count()
        return super().put_if(key, data, version, content_type=content_type)

    def _count(self) -> None:
        self.writes_left -= 1
        if self.writes_left < 0:
            raise KeyboardInterrupt


def measured(
    store: MemoryStore, folder: Path, *, holds: bool = True, categories: tuple[str, ...] = CATEGORIES
) -> Attempt:
    """A retraining whose outcome is there, and not yet published."""
    upload_enough(store, categories)
    attempt = begun(store, folder / "work")
    files = NEW.write(attempt.outcome)
    (files / "model_card.md").write_text("# tiny")
    (files / "preview.png").write_bytes(b"picture")
    verdict = {"name": attempt.plan.name, "version": NEW.version, "rules": [Rule(holds, "why")]}
    (files / VERDICT).write_text(json.dumps(verdict))
    return attempt


def published(store: MemoryStore, attempt: Attempt) -> bool:
    outcome = read_outcome(attempt)
    assert outcome is not None
    return publish(store, attempt, outcome, "night-1")


def test_a_better_challenger_is_promoted(tmp_path: Path) -> None:
    store = MemoryStore()
    first = champion_of(store, tmp_path)
    attempt = measured(store, tmp_path)
    assert published(store, attempt)
    aliases = read_aliases(store)
    assert (aliases[CHAMPION].now, aliases[CHAMPION].history) == (NEW_REF, (first,))
    assert aliases[CHALLENGER].now == NEW_REF
    assert store.get(f"models/tiny/{NEW.version}/model_card.md") == b"# tiny"
    assert store.get(f"models/tiny/{NEW.version}/preview.png") == b"picture"
    record = read_retrained(store)
    assert record is not None
    assert (record.photos, record.run_id) == (33, "night-1")
    assert not attempt.folder.exists()
    assert rollback(store) == first


def test_any_other_is_kept_as_the_challenger(tmp_path: Path) -> None:
    store = MemoryStore()
    first = champion_of(store, tmp_path)
    assert not published(store, measured(store, tmp_path, holds=False))
    assert read_aliases(store)[CHAMPION].now == first
    assert read_aliases(store)[CHALLENGER].now == NEW_REF
    assert read_retrained(store) is not None


def test_a_champion_that_stays_gets_the_layouts_of_the_uploads(tmp_path: Path) -> None:
    store = MemoryStore()
    first = champion_of(store, tmp_path)
    attempt = measured(store, tmp_path, holds=False)
    (attempt.outcome / CHAMPIONS_LAYOUTS).write_bytes(b"layouts")
    assert not published(store, attempt)
    now = read_aliases(store)[CHAMPION]
    assert (now.now.name, now.history) == ("tiny", (first,))
    champion, before = resolve(None, store), resolve(str(first), store)
    assert champion.version != first.version
    assert champion.files == {**before.files, LAYOUT_BANK: b"layouts"}


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.slow
def test_a_crash_at_any_write_leaves_a_champion_and_is_made_up_for(tmp_path: Path, holds: bool) -> None:
    """Both aliases change in one step each, so the champion is the old or the new one, always whole."""
    deaths = 0
    for writes in range(100):
        folder = tmp_path / str(writes)
        store = Dying()
        first = champion_of(store, folder)
        attempt = measured(store, folder, holds=holds)
        store.writes_left = writes
        try:
            published(store, attempt)
        except KeyboardInterrupt:
            deaths += 1
        store.writes_left = 10_000
        champion = read_aliases(store)[CHAMPION].now
        assert champion in ((first, NEW_REF) if holds else (first,))
        assert resolve(None, store).version == champion.version
        if not attempt.folder.exists():
            break
        assert begun(store, folder / "work") == attempt
        assert published(store, attempt) == holds
        assert read_aliases(store)[CHAMPION].now == (NEW_REF if holds else first)
        assert read_retrained(store) is not None
    # The files of the challenger, two aliases or one, the record of the photos.
    assert deaths == len(NEW.files) + 2 + (3 if holds else 2)


def test_a_champion_that_was_made_meanwhile_stays(tmp_path: Path) -> None:
    """The challenger was never measured against it."""
    store = MemoryStore()
    champion_of(store, tmp_path)
    attempt = measured(store, tmp_path)
    another = champion_of(store, tmp_path, seed=3)
    assert not published(store, attempt)
    assert read_aliases(store)[CHAMPION].now == another
    assert read_aliases(store)[CHALLENGER].now == NEW_REF


def test_the_bundled_model_is_what_a_rollback_goes_back_to(tmp_path: Path) -> None:
    store = MemoryStore()
    bundled = resolve(None, store)
    attempt = measured(store, tmp_path, categories=config_of(bundled).categories)
    assert published(store, attempt)
    assert read_aliases(store)[CHAMPION].now == ModelRef(name=bundled.name, version=NEW.version)
    assert rollback(store) == ModelRef(name=bundled.name, version=bundled.version)
    assert resolve(None, store).files == bundled.files


def test_what_is_no_model_follows_nobody(tmp_path: Path) -> None:
    store = MemoryStore()
    first = champion_of(store, tmp_path)
    with pytest.raises(ModelError, match=f"there is no model {NEW_REF}"):
        succeed(store, NEW_REF, after=first)
