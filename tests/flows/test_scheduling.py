"""The pinned versions of Prefect, fastapi and SQLAlchemy work together: a server really schedules.

A newer fastapi stops the server from starting, a newer SQLAlchemy stops its scheduler, silently.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.servers import ask_prefect

LIMIT_S = 180

SERVE = """
from datetime import timedelta
from pathlib import Path
from prefect import flow

@flow(name="tick")
def tick(folder: str) -> None:
    Path(folder, "ticked").touch()

if __name__ == "__main__":
    tick.serve(name="tick", interval=timedelta(seconds=5), parameters={"folder": FOLDER})
"""


def test_a_server_schedules_and_a_served_deployment_runs(
    tmp_path: Path, prefect_environment: dict[str, str]
) -> None:
    script = tmp_path / "tick.py"
    script.write_text(SERVE.replace("FOLDER", repr(str(tmp_path))))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, script], env=prefect_environment, stdout=log, stderr=log)
    try:
        limit_s = time.monotonic() + LIMIT_S
        completed: list[dict[str, Any]] = []
        while not completed and time.monotonic() < limit_s:
            time.sleep(0.5)
            assert process.poll() is None, (tmp_path / "log").read_text()
            completed = ask_prefect(
                prefect_environment["PREFECT_API_URL"],
                "POST",
                "/flow_runs/filter",
                {
                    "flows": {"name": {"any_": ["tick"]}},
                    "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}},
                },
            )
    finally:
        process.terminate()
        process.wait()
    assert completed, (tmp_path / "log").read_text()
    # It was the scheduler that made the run, nobody asked for it.
    assert all(run["auto_scheduled"] for run in completed)
    assert (tmp_path / "ticked").exists()
