"""What a deployment is set up with: environment variables, with defaults that work without any."""

from importlib.resources import files
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from toygan.errors import BadInput


def _bundled_catalog() -> str:
    return str(files("toygan") / "pretrained" / "demo_catalog.parquet")


def _check_cron(text: str) -> str:
    from prefect.client.schemas.schedules import CronSchedule

    return CronSchedule(cron=text).cron


def _check_timezone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("no such time zone; wanted is a name such as Europe/Berlin")
    return ZoneInfo(name).key


class ServiceSettings(BaseSettings):
    """One variable a field: TOYGAN_STORE, TOYGAN_CATALOG, ... A variable that is empty counts as not set."""

    model_config = SettingsConfigDict(env_prefix="TOYGAN_", env_ignore_empty=True, frozen=True)

    store: str = "toygan-store"  # folder or s3://BUCKET/PREFIX
    catalog: str = Field(default_factory=_bundled_catalog)  # path or s3://BUCKET/KEY
    cron: Annotated[str, AfterValidator(_check_cron)] = "0 2 * * *"  # of generate-catalog
    timezone: Annotated[str, AfterValidator(_check_timezone)] = "UTC"  # of that cron
    watch_interval_s: float = Field(default=60.0, ge=5.0)
    min_new_photos: int = Field(default=20, ge=1)  # so many, and a retraining is worth it
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    log_format: Literal["text", "json"] = "text"  # json: an object a line, with run, shard and category
    metrics_port: int | None = Field(default=None, ge=1, le=65535)  # for Prometheus; by default none is open
    runner: Literal["threads", "dask", "ray"] = "threads"  # where the shards of a run are computed
    runner_address: str | None = None  # of a Dask or Ray cluster; by default one on this machine, for the run
    shard_cpus: int = Field(default=2, ge=1)  # cores that a shard gets on Dask or Ray
    shard_gpus: float = Field(default=0, ge=0)  # GPUs that a shard gets on Ray; 0.5 lets two share one


def service_settings() -> ServiceSettings:
    """The settings of this process; raises BadInput that names the variable."""
    try:
        return ServiceSettings()
    except ValidationError as error:
        told = [
            f"TOYGAN_{str(each['loc'][0]).upper()}: {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors()
        ]
        raise BadInput("; ".join(told)) from None
