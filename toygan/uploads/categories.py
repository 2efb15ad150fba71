"""The categories that an upload may have."""

from collections.abc import Iterable

from toygan.artifact.config import categories_in
from toygan.artifact.files import CONFIG
from toygan.registry.aliases import read_aliases
from toygan.registry.models import CHAMPION, resolve
from toygan.storage.keys import model_key
from toygan.storage.store import ObjectStore


def known_categories(store: ObjectStore, more: Iterable[str] = ()) -> tuple[str, ...]:
    """Returns the categories of the store's champion, else of the bundled model, and `more`, sorted.

    Reads only the champion's config, because this is called every minute. Raises ObjectNotFound if the config
    is missing, and ModelError if the config does not describe a model or if there is no bundled model.
    """
    champion = read_aliases(store).get(CHAMPION)
    if champion is None:
        where, content = "the bundled model", resolve(None, None).files[CONFIG]
    else:
        key = model_key(champion.now.name, champion.now.version, CONFIG)
        where, content = f"{store.uri}/{key}", store.get(key)
    return tuple(sorted({*categories_in(content, where), *more}))
