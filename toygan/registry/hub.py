"""Models on the Hugging Face Hub: `hf:OWNER/NAME`, or `hf:OWNER/NAME@REVISION`.

Only the files of a model are downloaded: JSON, safetensors and one Parquet table. A revision is a branch, a
tag or a commit. Each pushed model has its version as a tag.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from toygan.artifact.config import config_of
from toygan.artifact.files import EXTRAS, VERSIONED, ModelFiles, model_version, read_folder
from toygan.disk import check_new_folder, disk_errors, new_folder
from toygan.errors import ModelError

CARD: Final = "README.md"  # the Hub reads the model card from this file
_PREFIX: Final = "hf:"
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_REFERENCE: Final = re.compile(rf"hf:({_NAME}/{_NAME})(?:@([A-Za-z0-9._/-]+))?")
_LINK: Final = re.compile(r"!?\[([^\]]*)\]\((?!https?:)[^)]*\)")


@dataclass(frozen=True, kw_only=True)
class HubReference:
    """A model on the Hub. Without a revision, the reference means the newest commit."""

    repo: str  # OWNER/NAME
    revision: str | None = None

    def __str__(self) -> str:
        return f"{_PREFIX}{self.repo}" + (f"@{self.revision}" if self.revision else "")


def hub_reference(reference: str) -> HubReference | None:
    """Parses a reference; returns None if it does not begin with `hf:`.

    Raises ModelError for a malformed reference.
    """
    if not reference.startswith(_PREFIX):
        return None
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise ModelError(f"{reference}: write hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    return HubReference(repo=found[1], revision=found[2])


def read_hub(reference: HubReference) -> ModelFiles:
    """Reads and checks a model on the Hub. Only files that the Hub's cache lacks are downloaded.

    Raises ModelError.
    """
    files = read_folder(_pull(reference))
    return ModelFiles(name=reference.repo.partition("/")[2], version=model_version(files), files=files)


def hub_extras(reference: HubReference) -> Path:
    """Downloads the EXTRAS of a model and returns the folder that holds them. Raises ModelError."""
    return _pull(reference, EXTRAS)


def pinned(reference: HubReference) -> str:
    """Returns the reference with the commit that it names now as its revision. Raises ModelError."""
    return str(HubReference(repo=reference.repo, revision=_pull(reference).name))


def push(
    model: ModelFiles, extras: Mapping[str, bytes], to: HubReference, *, private: bool, licence: str | None
) -> None:
    """Puts a model on the Hub in one commit, with its card, and tags it with its version.

    The repository is made if it does not exist. Model files in the repository that this model does not have
    are removed, because the files together would be another version. Raises ModelError.
    """
    if to.revision:
        raise ModelError(f"{to}: push to hf:{to.repo}, without a revision; the version becomes a revision")
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    content = {**extras, **model.files, CARD: card(model, extras, licence).encode()}
    with _hub_errors(to, "pushed"):
        api = HfApi()
        api.create_repo(to.repo, private=private, exist_ok=True)
        old = (set(api.list_repo_files(to.repo)) & set(VERSIONED)) - set(content)
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationDelete(path_in_repo=name) for name in sorted(old)
        ]
        operations += [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=data) for name, data in content.items()
        ]
        api.create_commit(to.repo, operations, commit_message=f"{model.name}@{model.version}")
        api.create_tag(to.repo, tag=model.version, exist_ok=True)


def write_repository(
    model: ModelFiles, extras: Mapping[str, bytes], folder: Path, *, licence: str | None
) -> None:
    """Writes the files that `push` would put on the Hub into the new folder `folder`.

    Raises BadInput if the folder exists and is not empty.
    """
    check_new_folder(folder)
    content = {**extras, **model.files, CARD: card(model, extras, licence).encode()}
    with disk_errors(folder, "nothing is kept"), new_folder(folder) as fresh:
        for name, data in content.items():
            (fresh / name).write_bytes(data)


def card(model: ModelFiles, extras: Mapping[str, bytes], licence: str | None) -> str:
    """Returns the model's card with the header that the Hub reads."""
    from huggingface_hub import ModelCardData

    config = config_of(model, may_enlarge=True)
    takes_image = config.enlarges or config.required_condition is not None
    data = ModelCardData(
        library_name="toygan",
        license=licence,
        pipeline_tag="image-to-image" if takes_image else "text-to-image",
        tags=["gan", "product-pictures", "toygan"],
    )
    text = extras.get("model_card.md", f"# {model.name}\n".encode()).decode(errors="replace")
    # Links to files that are not pushed would be broken, so only their text is kept.
    text = _LINK.sub(lambda link: link[0] if _is_pushed(link[0], extras) else link[1], text)
    use = (
        "## Use\n\n    pip install toygan\n    toygan generate --catalog products.csv --output store/ "
        f"--model hf:OWNER/{model.name}@{model.version}\n"
    )
    return f"---\n{data.to_yaml()}\n---\n\n{text.rstrip()}\n\n{use}"


def _is_pushed(link: str, extras: Mapping[str, bytes]) -> bool:
    return link.rpartition("(")[2].rstrip(")") in extras


def _pull(reference: HubReference, names: Sequence[str] = VERSIONED) -> Path:
    from huggingface_hub import snapshot_download

    with _hub_errors(reference, "read"):
        folder = snapshot_download(reference.repo, revision=reference.revision, allow_patterns=list(names))
    return Path(folder)


@contextmanager
def _hub_errors(reference: HubReference, done: str) -> Iterator[None]:
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    remedy = "check the name; for a private model log in with `hf auth login` or set HF_TOKEN"
    try:
        yield
    except HFValidationError as error:
        raise ModelError(f"{reference}: {error}; check the name") from None
    except RevisionNotFoundError:
        raise ModelError(
            f"{reference}: there is no such revision; leave the revision out for the newest commit"
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(f"{reference}: the Hub shows no such model; {remedy}") from None
    except LocalEntryNotFoundError:
        raise ModelError(
            f"{reference}: the Hub cannot be reached, and its cache has no copy; try again later"
        ) from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise ModelError(f"{reference} was not {done}: the Hub refuses it ({status}); {remedy}") from None
        raise ModelError(f"{reference} was not {done}: the Hub answers {status}; try again later") from None
    except Exception as error:
        # Which HTTP client raises the error depends on the version of huggingface_hub.
        is_of_client = type(error).__module__.partition(".")[0] in ("httpx", "httpx2")
        if not isinstance(error, (OSError, RuntimeError)) and not is_of_client:
            raise
        reason = str(error).partition("\n")[0]
        raise ModelError(f"{reference} was not {done}: {reason}; try again later") from None
