"""Runs a small catalog through two commits and compares every picture and table, with the same models.

    python -m tests.benchmarks.same_bytes BEFORE AFTER [--models COMMIT] [--limit N]

The models and the catalog are those that COMMIT (default: BEFORE) bundles, so the versions of the models and
with them the seeds are the same. Prints what differs and ends with 1, or prints how much is the same.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

ROOT: Final = Path(__file__).parents[2]
RUN: Final = "compared"
# These say when, by what and in which file a picture was made.
VOLATILE: Final = frozenset({"generated_at", "pipeline_version", "engine", "commit"})
MODELS: Final = {
    **{"--model": "text", "--sketch-model": "sketch", "--layout-model": "layout"},
    **{"--photo-model": "studio"},
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--models", metavar="COMMIT")
    parser.add_argument("--limit", type=int, default=24)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="toygan-same-") as temporary, checkouts(temporary) as checkout:
        pretrained = checkout(given.models or given.before) / "toygan" / "pretrained"
        stores: list[Path] = []
        for commit in (given.before, given.after):
            stores.append(Path(temporary) / f"store-{len(stores)}")
            generate(checkout(commit), pretrained, stores[-1], given.limit)
        differences = [*compare_pictures(*stores), *compare_tables(*stores)]
        files = len(pictures_of(stores[0]))
        rows = sum(pq.read_metadata(file).num_rows for file in stores[0].glob("metadata/*/part-*.parquet"))
    for line in differences:
        print(line)
    if differences:
        sys.exit(1)
    print(f"{given.before} and {given.after}: {files} pictures and {rows} metadata rows are the same")


@contextmanager
def checkouts(folder: str) -> Iterator[Callable[[str], Path]]:
    """Provides a function from a commit to a checkout of it."""
    made: dict[str, Path] = {}

    def checkout(commit: str) -> Path:
        if commit not in made:
            made[commit] = Path(folder) / f"tree-{len(made)}"
            subprocess.run(
                ["git", "-C", ROOT, "worktree", "add", "-q", "--detach", made[commit], commit], check=True
            )
        return made[commit]

    try:
        yield checkout
    finally:
        for tree in made.values():
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", tree], check=True)


def generate(tree: Path, pretrained: Path, store: Path, limit: int) -> None:
    """Runs `toygan generate` of a checkout."""
    command: list[str | Path] = [sys.executable, "-m", "flows.cli", "generate", "--run-id", RUN]
    command += ["--catalog", pretrained / "demo_catalog.parquet", "--output", store, "--limit", str(limit)]
    for option, kind in MODELS.items():
        for folder in pretrained.glob(f"*-{kind}*"):  # older commits bundle fewer models
            command += [option, folder]
    environment = os.environ | {"PYTHONPATH": str(tree), "PREFECT_HOME": str(store.with_suffix(".prefect"))}
    subprocess.run(command, cwd=tree, env=environment, check=True)


def pictures_of(store: Path) -> dict[str, bytes]:
    """Returns the pictures of a store, approved and for review, by their keys."""
    files = (file for name in ("images", "review") for file in (store / name).rglob("*") if file.is_file())
    return {file.relative_to(store).as_posix(): file.read_bytes() for file in files}


def compare_pictures(before: Path, after: Path) -> Iterator[str]:
    one, other = pictures_of(before), pictures_of(after)
    for key in sorted(one.keys() | other.keys()):
        if key not in one or key not in other:
            yield f"{key} is only {'before' if key in one else 'after'}"
        elif one[key] != other[key]:
            yield f"{key} has other bytes"


def compare_tables(before: Path, after: Path) -> Iterator[str]:
    """Compares the values of all columns that both have; names the others."""
    for file in sorted([*before.glob("metadata/**/*.parquet"), before / "current.parquet"]):
        key = file.relative_to(before)
        one, other = (pq.read_table(store / key) for store in (before, after))
        names = set(one.column_names) & set(other.column_names)
        for name in sorted(set(one.column_names) ^ set(other.column_names)):
            print(f"{key}: only one of both has the column {name}")
        order = [(name, "ascending") for name in ("sku", "image_index", "attempt") if name in names]
        one, other = (table.sort_by(order) if order else table for table in (one, other))
        for name in sorted(names - VOLATILE):
            if one[name].to_pylist() != other[name].to_pylist():
                yield f"{key}: the column {name} has other values"


if __name__ == "__main__":
    main()
