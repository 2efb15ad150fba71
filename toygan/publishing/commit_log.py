"""Orders commits by numbers, not by clocks. Keeps the acceptance of recent runs for comparisons.

`state/commits.json` is changed in one step. A run takes the next number just before it writes its manifest,
which contains the number. The run is open until everything in its manifest is live. If its process dies
before that, the next run makes it live. The file can be rebuilt from the manifests. People's decisions take
numbers in the same way. A decision is open under the key of its object.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from catalog_schemas.images import APPROVED, DECISIONS
from catalog_schemas.runs import Manifest
from catalog_schemas.validation import MOST_WHOLE
from toygan.errors import BadInput, ObjectNotFound
from toygan.storage.keys import COMMITS_KEY
from toygan.storage.store import ObjectStore
from toygan.storage.update import Stored, update

RECENT_RUNS = 7
# with fewer candidates of a category in a run, their acceptance is too uncertain to be used
MIN_CANDIDATES = 20

_SCHEMA = "commits/1"
_JSON = "application/json"
_KEPT_RUNS = RECENT_RUNS + 1  # the last run, and the runs with which it is compared

Acceptance = Mapping[str, Mapping[int, float]]  # the approved share of the candidates, by category and commit


@dataclass(frozen=True, kw_only=True)
class Commits:
    """The last commit number, the open runs with their numbers, and the recent acceptance by category."""

    last: int = 0
    # maps run ids and keys of decisions to their numbers
    open: Mapping[str, int] = field(default_factory=dict)
    acceptance: Acceptance = field(default_factory=dict)

    def to_json(self) -> bytes:
        content = {
            "schema": _SCHEMA,
            "last": self.last,
            "open": dict(self.open),
            "acceptance": {
                category: {str(commit): share for commit, share in shares.items()}
                for category, shares in self.acceptance.items()
            },
        }
        return (json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Parses the output of to_json; raises BadInput for anything else."""
        try:
            content = json.loads(text)
            if content["schema"] != _SCHEMA:
                raise ValueError(f"its schema is {content['schema']!r}")
            numbers = [content["last"], *content["open"].values()]
            if not all(type(number) is int and 0 <= number < MOST_WHOLE for number in numbers):
                raise ValueError("it has a number that no commit can have")
            return cls(
                last=content["last"],
                open=dict(content["open"]),
                acceptance={
                    str(category): {int(commit): float(share) for commit, share in shares.items()}
                    for category, shares in content["acceptance"].items()
                },
            )
        except (ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BadInput(
                f"{COMMITS_KEY} is damaged ({error!r}); remove it; the next run makes it again"
            ) from None

    def with_run(self, manifest: Manifest) -> "Commits":
        """Returns the commits after the run of `manifest` has become live."""
        acceptance = dict(self.acceptance)
        for category, counts in manifest.categories.items():
            if (share := acceptance_of(counts)) is not None:
                shares = {**acceptance.get(category, {}), manifest.commit: share}
                recent = sorted(shares, reverse=True)[:_KEPT_RUNS]
                acceptance[category] = {commit: shares[commit] for commit in recent}
        return Commits(
            last=max(self.last, manifest.commit),
            open={run_id: number for run_id, number in self.open.items() if run_id != manifest.run_id},
            acceptance=acceptance,
        )


def acceptance_of(counts: Mapping[str, int]) -> float | None:
    """Returns the approved share of a category's candidates; None for fewer than MIN_CANDIDATES."""
    candidates = sum(counts.get(each, 0) for each in DECISIONS)
    return counts.get(APPROVED, 0) / candidates if candidates >= MIN_CANDIDATES else None


def read_commits(store: ObjectStore) -> Commits | None:
    """Returns the commits; None if the file does not exist. Raises BadInput if it is damaged."""
    try:
        return Commits.from_json(store.get(COMMITS_KEY))
    except ObjectNotFound:
        return None


def reserve(store: ObjectStore, run_id: str) -> int:
    """Reserves a run's commit number.

    Returns the next number, or the number that an earlier try of this run reserved.
    """
    return reserve_run(store, run_id, None)[0]


def reserve_run(store: ObjectStore, run_id: str, known: Stored | None) -> tuple[int, Stored]:
    """Does what reserve does, and also returns the stored commits. For `known`, see `update`."""
    numbers, stored = _reserve(store, [run_id], known)
    return numbers[0], stored


def reserve_all(store: ObjectStore, names: Sequence[str]) -> list[int]:
    """Reserves a number for each of several runs or decisions, in one step."""
    return _reserve(store, names, None)[0]


def _reserve(store: ObjectStore, names: Sequence[str], known: Stored | None) -> tuple[list[int], Stored]:
    taken: dict[str, int] = {}

    def take(before: bytes | None) -> bytes:
        commits = Commits() if before is None else Commits.from_json(before)
        last = commits.last
        for name in names:
            taken[name] = commits.open.get(name, last + 1)
            last = max(last, taken[name])
        return Commits(last=last, open={**commits.open, **taken}, acceptance=commits.acceptance).to_json()

    stored = update(store, COMMITS_KEY, take, content_type=_JSON, known=known)
    return [taken[name] for name in names], stored


def close(store: ObjectStore, *manifests: Manifest, known: Stored | None = None) -> Stored:
    """Records that everything in the manifests of the runs is live.

    Returns the stored commits. For `known`, see `update`.
    """

    def note(before: bytes | None) -> bytes:
        commits = Commits() if before is None else Commits.from_json(before)
        for manifest in manifests:
            commits = commits.with_run(manifest)
        return commits.to_json()

    return update(store, COMMITS_KEY, note, content_type=_JSON, known=known)


def close_decisions(store: ObjectStore, keys: Iterable[str], *, last: int) -> None:
    """Records that decisions are merged.

    `last` is the highest number of all decisions, 0 if there are none.
    """
    done = set(keys)

    def note(before: bytes | None) -> bytes:
        commits = Commits() if before is None else Commits.from_json(before)
        left = {name: number for name, number in commits.open.items() if name not in done}
        return Commits(last=max(commits.last, last), open=left, acceptance=commits.acceptance).to_json()

    update(store, COMMITS_KEY, note, content_type=_JSON)
