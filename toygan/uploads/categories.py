"""The categories that an upload may have."""

import json
from collections.abc import Iterable

from toygan.artifact.files import CONFIG
from toygan.registry.aliases import read_aliases
from toygan.registry.models import CHAMPION, resolve
from toygan.storage.keys import model_key
from toygan.storage.store import ObjectStore


def known_categories(store: ObjectStore, more: Iterable[str] = ()) -> tuple[str, ...]:
    """Returns the categories of the store's champion, else of the bundled model, with `more`; sorted.

    Reads only the champion's config, because this is called every minute. Raises ObjectNotFound if the
    config is missing, ModelError if there is no bundled model.
    """
    champion = read_aliases(store).get(CHAMPION)
    if champion is None:
        config = resolve(None, None).files[CONFIG]
    else:
        config = store.get(model_key(champion.now.name, champion.now.version, CONFIG))
    return tuple(sorted({*json.loads(config)["categories"], *more}))
