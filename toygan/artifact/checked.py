"""Remembers on this machine which model versions `toygan.artifact.load.read_scope` has checked.

A version is a digest of the model's files, so one check of each version is enough. The check of a model that
needs snapshots takes seconds, because it imports timm. This memory only saves time.
"""

from importlib.metadata import version
from pathlib import Path

from toygan.conditions.text_cache import default_folder


def is_checked(model_version: str) -> bool:
    """Says whether this release of toygan has checked the version on this machine."""
    path = _path(model_version)
    return path is not None and path.is_file()


def remember_checked(model_version: str) -> None:
    """Makes `is_checked` return True for the version, if the user's cache folder can be written."""
    path = _path(model_version)
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError:
        return


def _path(model_version: str) -> Path | None:
    texts = default_folder()
    return texts and texts.with_name("checked") / f"{model_version}-{version('toygan')}"
