"""Runs that commit, for tests."""

from collections.abc import Mapping
from dataclasses import dataclass

from hypothesis import strategies as st

from catalog_schemas.runs import Manifest
from tests.toygan.generation.runs import candidate, put_part
from tests.toygan.generation.slots import slot
from toygan.planning.finished import Parts
from toygan.publishing.commit import (
    make_live,
    publish_manifest,
)
from toygan.storage.memory import MemoryStore

Key = tuple[str, int]  # sku, image index


DECISIONS = ("approved", "review", "rejected")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run: the decision of each of its slots, laid into two shards."""

    run_id: str
    commit: int
    decisions: Mapping[Key, str]

    def manifest(self) -> Manifest:
        return Manifest(
            run_id=self.run_id,
            pipeline_version="0.1.0",
            prefect_version="3.8.8",
            started_at="2026-11-01T00:00:00+00:00",
            finished_at="2026-11-01T00:00:00+00:00",
            catalog_uri="catalog.parquet",
            catalog_sha256="b" * 64,
            settings={},
            model_name="toybricks",
            model_version="0123456789ab",
            plan_sha256="c" * 64,
            shards=2,
            counts={},
            categories={},
            models={},
            commit=self.commit,
            incomplete={},
        )

    def make_live(self, store: MemoryStore) -> None:
        make_live(store, self.manifest(), Parts(store, self.run_id, 2))

    def put(self, store: MemoryStore) -> None:
        """All but the live table."""
        for shard in range(2):
            rows = [
                candidate(slot(0, sku=sku, image_index=index), self.run_id, decision=decision)
                for (sku, index), decision in self.decisions.items()
                if len(sku) % 2 == shard
            ]
            put_part(store, self.run_id, rows, shard)
        publish_manifest(store, self.manifest())


decisions = st.dictionaries(
    st.tuples(st.sampled_from(["a", "bb", "c", "dd"]), st.integers(0, 2)), st.sampled_from(DECISIONS)
)
