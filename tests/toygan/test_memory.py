import gc
from collections.abc import Iterator

import pytest

from toygan.memory import importing


@pytest.fixture(autouse=True)
def _collector_as_before() -> Iterator[None]:
    was_enabled = gc.isenabled()
    yield
    gc.unfreeze()
    (gc.enable if was_enabled else gc.disable)()


def test_no_garbage_is_collected_while_modules_are_imported() -> None:
    gc.enable()
    with importing():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_objects_of_imported_modules_are_not_visited_later() -> None:
    with importing():
        module = [[] for _ in range(100)]
    assert gc.get_freeze_count() >= 100
    assert not any(each is module for each in gc.get_objects())


def test_a_failed_import_leaves_the_collector_on() -> None:
    gc.enable()
    with pytest.raises(ModuleNotFoundError), importing():
        import toygan.nothing  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with importing():
        pass
    assert not gc.isenabled()
