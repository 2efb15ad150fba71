"""The flow `retrain` from uploads to a new champion, killed on its way and taken up again."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.flows.conftest import COMMAND_LIMIT_S
from tests.flows.retraining import make_photos, make_store, start_process, upload_photos
from tests.models import CATEGORIES, CPU
from tests.servers import ask_prefect
from toygan.artifact.config import config_of
from toygan.artifact.load import load_model
from toygan.errors import Retryable
from toygan.registry.aliases import ModelRef, read_aliases
from toygan.registry.models import CHAMPION, resolve
from toygan.registry.promotion import rollback
from toygan.retraining.folder import working_folder
from toygan.retraining.publish import CHALLENGER
from toygan.storage.keys import model_key
from toygan.storage.store import ObjectStore
from toygan.training.checkpoint import checkpoint_folders
from toygan.uploads.retrained import read_retrained

MAX_IMAGES = 3200


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A store with a champion and an upload, and the folder of its retrainings."""

    store: ObjectStore
    first: ModelRef
    work: Path
    photos: Path

    def parameters(self) -> dict[str, object]:
        return {
            "store": self.store.uri,
            "photos": str(self.photos),
            "work": str(self.work),
            "max_images": MAX_IMAGES,
            "pictures": 60,
            "quiet_s": 0,
            "recall_loss": 1,
            "category_loss": 1,
            "device": "cpu",
        }

    def training_log(self) -> list[str]:
        (log,) = self.work.glob("*/*/training/log.jsonl")
        return log.read_text().splitlines()


def make_shop(folder: Path, photos: Path) -> Shop:
    folder.mkdir()
    store, first = make_store(folder)
    return Shop(store=store, first=first, work=folder / "work", photos=photos)


@pytest.fixture(scope="module")
def calm_and_killed(
    tmp_path_factory: pytest.TempPathFactory, prefect_environment: dict[str, str]
) -> tuple[Shop, Shop]:
    """Two shops with the same champion and photos: the retraining of one was killed in its training, and
    again in its evaluation."""
    folder = tmp_path_factory.mktemp("shops")
    photos = make_photos(folder / "photos")
    calm, killed = make_shop(folder / "calm", photos), make_shop(folder / "killed", photos)
    undisturbed = start_process(prefect_environment, folder / "calm.log", calm.parameters())
    begun = []
    moments: dict[str, Callable[[], bool]] = {
        "training": lambda: any(
            len(checkpoint_folders(training)) > 1 for training in killed.work.glob("*/*/training")
        ),
        "evaluation": lambda: any(killed.work.glob("*/*/training/model/calibration.json")),
    }
    for moment, has_come in moments.items():
        log = folder / f"{moment}.log"
        process = start_process(prefect_environment, log, killed.parameters())
        limit_s = time.monotonic() + COMMAND_LIMIT_S
        while not has_come() and time.monotonic() < limit_s and process.poll() is None:
            time.sleep(0.05)
        assert process.poll() is None, f"it did not come to be killed in its {moment}:\n{log.read_text()}"
        process.kill()
        process.wait()
        assert read_aliases(killed.store)[CHAMPION].now == killed.first
        assert read_retrained(killed.store) is None
        begun.append(killed.training_log()[0])
    # With the seconds that it took: the training was not begun again.
    assert begun[0] == begun[1]
    upload_photos(killed.store, 3, first=5)  # too late for the snapshot
    last = start_process(prefect_environment, folder / "last.log", killed.parameters())
    for process, log in ((last, folder / "last.log"), (undisturbed, folder / "calm.log")):
        assert process.wait(COMMAND_LIMIT_S) == 0, log.read_text()
        assert "is the champion now" in log.read_text()
    return calm, killed


def test_a_killed_retraining_ends_as_an_undisturbed_one(calm_and_killed: tuple[Shop, Shop]) -> None:
    """The versions of models are made from their content: equal versions are equal bytes."""
    calm, killed = calm_and_killed
    assert read_aliases(killed.store) == read_aliases(calm.store)
    for shop in calm_and_killed:
        record = read_retrained(shop.store)
        assert record is not None
        assert record.photos == 1
        assert not list(shop.work.glob("*/*/")), "the work is done and should be gone"


def test_the_challenger_is_whole_and_the_champion(calm_and_killed: tuple[Shop, Shop]) -> None:
    store, first = calm_and_killed[0].store, calm_and_killed[0].first
    aliases = read_aliases(store)
    champion = aliases[CHAMPION].now
    assert aliases[CHALLENGER].now == champion
    assert aliases[CHAMPION].history == (first,)
    files = resolve(None, store)
    config = config_of(files)
    assert config.categories == CATEGORIES
    assert config.training["images_seen"] == MAX_IMAGES
    load_model(files, CPU).require_calibration()


def test_the_model_card_lies_beside_the_model_and_in_an_artifact(
    calm_and_killed: tuple[Shop, Shop], prefect_environment: dict[str, str]
) -> None:
    store = calm_and_killed[0].store
    champion = read_aliases(store)[CHAMPION].now
    card = store.get(model_key(champion.name, champion.version, "model_card.md")).decode()
    for part in ("**Promoted**", "KID x 1000", "recall", "1 uploaded photos", "curve", "(preview.png)"):
        assert part in card
    assert store.get(model_key(champion.name, champion.version, "preview.png")).startswith(b"\x89PNG")
    answer = ask_prefect(
        prefect_environment["PREFECT_API_URL"],
        "POST",
        "/artifacts/filter",
        {"artifacts": {"key": {"any_": ["retrain"]}}},
    )
    artifacts = [each["data"] for each in answer if each["description"] == str(champion)]
    assert len(artifacts) == 2  # of either shop
    for artifact in artifacts:
        assert artifact.startswith(card.splitlines()[0])
        assert "(data:image/webp;base64," in artifact


def test_the_way_back_is_one_step(calm_and_killed: tuple[Shop, Shop]) -> None:
    shop = calm_and_killed[0]
    assert rollback(shop.store) == shop.first
    assert resolve(None, shop.store).version == shop.first.version


def test_one_work_folder_has_one_retraining_at_a_time(
    calm_and_killed: tuple[Shop, Shop],
) -> None:
    """A second process fails with that message. Deployments prevent it by their limit of one run."""
    shop = calm_and_killed[1]
    with working_folder(shop.work, shop.store), pytest.raises(Retryable, match="is running"):
        working_folder(shop.work, shop.store).__enter__()
