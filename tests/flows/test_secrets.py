"""No output of a run contains a secret: the tests plant secrets and search everything that a run writes."""

from pathlib import Path

import httpx
import pytest

from tests.flows.catalogs import product, write_catalog
from tests.flows.conftest import Toygan
from tests.flows.serving import LIMIT_S, serving
from tests.models import tiny_model
from tests.servers import SECRET_KEY, ask_prefect, fresh_bucket, rclone_server
from toygan.publishing.verify import verify
from toygan.storage.open_store import open_store

PASSWORD = "planted-password-5b1c"
WITH_PASSWORD = f"s3://shop:{PASSWORD}@bucket/pictures"


def where_it_is(secret: str, *folders: Path) -> list[str]:
    """Every file below the folders that holds the secret; the write-ahead log of SQLite is one of them."""
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    assert files
    return [str(path) for path in files if secret.encode() in path.read_bytes()]


@pytest.fixture
def home(prefect_environment: dict[str, str]) -> Path:
    """Where the Prefect server keeps its database and its log."""
    folder = Path(prefect_environment["PREFECT_HOME"])
    assert list(folder.glob("*.db"))
    return folder


def test_a_run_into_a_bucket_tells_its_secret_key_nowhere(
    tmp_path: Path, toygan: Toygan, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all that may be logged: through a run, a look at the store, and a server that refuses the key."""
    model = tiny_model().write(tmp_path / "tiny")
    rows = [product(number) for number in range(12)] + [product(99, sketch_uri=WITH_PASSWORD)]
    catalog = write_catalog(tmp_path / "catalog.parquet", rows)
    everything = {"PREFECT_LOGGING_LEVEL": "DEBUG", "TOYGAN_LOG_FORMAT": "json"}
    command = ["--verbose", "generate", "--catalog", catalog, "--model", model, "--run-id", "nightly"]
    (tmp_path / "s3").mkdir()
    with rclone_server(tmp_path / "s3") as server:
        bucket = fresh_bucket(server, monkeypatch)
        known = server.environment() | everything
        result = toygan(*command, "--output", f"{bucket}/shop", **known)
        assert result.returncode == 0, result.stderr
        assert '"shard": 0' in result.stderr
        printed = result.stdout + result.stderr
        store = open_store(f"{bucket}/shop")
        assert verify(store).problems == ()
        result = toygan(*command, "--output", f"{bucket}/other", **known | {"AWS_ACCESS_KEY_ID": "nobody"})
        assert result.returncode == 2
        printed += result.stdout + result.stderr
        outcome = toygan("verify", f"{bucket}/shop", **known)
        printed += outcome.stdout + outcome.stderr
    (tmp_path / "printed").write_text(printed)
    # The values are found where they belong, so the search works.
    assert where_it_is(f"{bucket}/shop", home)
    assert where_it_is("nightly", tmp_path / "s3")
    assert where_it_is(SECRET_KEY, tmp_path, home) == []
    catalog.unlink()  # the row that holds the password is in it, and was set aside
    assert where_it_is(PASSWORD, tmp_path, home) == []


@pytest.mark.parametrize("option", ["--output", "--catalog", "--model"])
def test_a_uri_with_a_password_is_refused_before_anything_keeps_it(
    option: str, tmp_path: Path, toygan: Toygan, home: Path
) -> None:
    catalog = write_catalog(tmp_path / "catalog.parquet", [product(1)])
    usual = {"--catalog": catalog, "--output": tmp_path / "out", option: WITH_PASSWORD}
    result = toygan("generate", *[part for pair in usual.items() for part in pair])
    assert result.returncode == 2
    assert "s3://***@bucket" in result.stderr
    (tmp_path / "printed").write_text(result.stdout + result.stderr)
    assert where_it_is(PASSWORD, tmp_path, home) == []


def test_a_deployment_refuses_a_uri_with_a_password(
    tmp_path: Path, prefect_environment: dict[str, str], home: Path
) -> None:
    """As parameters, by the server itself; as a setting, before there is a deployment."""
    with serving(prefect_environment, tmp_path, TOYGAN_STORE=str(tmp_path / "store")) as service:
        identifier = service.deployment("generate-catalog")["id"]
        secrets = {"output": WITH_PASSWORD, "catalog": WITH_PASSWORD, "models": {"main": WITH_PASSWORD}}
        for parameter, value in secrets.items():
            given = {"parameters": {"parameters": {parameter: value}}}
            with pytest.raises(httpx.HTTPStatusError) as caught:
                ask_prefect(service.url, "POST", f"/deployments/{identifier}/create_flow_run", given)
            assert caught.value.response.is_client_error, caught.value.response.text
    with serving(prefect_environment, tmp_path, TOYGAN_STORE=WITH_PASSWORD) as service:
        assert service.process is not None
        assert service.process.wait(LIMIT_S) == 2
    assert "TOYGAN_STORE: s3://***@bucket" in service.log.read_text()
    assert where_it_is(PASSWORD, tmp_path, home) == []
