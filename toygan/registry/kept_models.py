"""Models of buckets in the user's cache folder, so that a night does not download them again.

A version is a digest of the model's files, so a kept version is never out of date. The cache saves requests
and time, and changes nothing else.
"""

import logging
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from toygan.artifact.files import VERSIONED, ModelFiles, _read_named, looks_like_version, model_version
from toygan.conditions.text_cache import default_folder
from toygan.errors import ModelError

MOST_KEPT = 8  # the largest number of kept versions; the least recently used version is removed first

log = logging.getLogger(__name__)


def models_folder() -> Path | None:
    """Returns the folder of the kept models below the user's cache folder; None without a home folder."""
    texts = default_folder()
    return texts and texts.with_name("models")


def read_through(name: str, version: str, read: Callable[[], ModelFiles], folder: Path | None) -> ModelFiles:
    """Returns the kept model of this version. If there is none, returns the model of `read` and keeps it.

    `folder` holds the kept models. A kept model with damaged files is read again. If the folder cannot be
    written, the log says so, and the model is not kept.
    """
    if folder is None or not looks_like_version(version):
        return read()
    kept = folder / version
    with suppress(OSError, ModelError):
        files = _read_named(kept, VERSIONED)
        if files and model_version(files) == version:
            kept.touch()  # used now
            return ModelFiles(name=name, version=version, files=files)
    model = read()
    try:
        _keep(model, kept)
    except OSError as error:
        log.warning("the model cannot be kept in %s (%s); the next run downloads it again", kept, error)
    return model


def _keep(model: ModelFiles, kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".new-") as new:
        made = Path(new) / kept.name
        made.mkdir()
        for filename, data in model.files.items():
            (made / filename).write_bytes(data)
        shutil.rmtree(kept, ignore_errors=True)  # the kept model may be damaged
        with suppress(OSError):  # another process has kept the model in the meantime
            made.rename(kept)
    versions = sorted(
        (path for path in kept.parent.iterdir() if not path.name.startswith(".")),
        key=lambda path: path.stat().st_mtime,
    )
    for old in versions[:-MOST_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
