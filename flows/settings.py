"""The settings of the service: environment variables. The service works if none is set."""

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from toygan.conditions.text_cache import default_folder
from toygan.errors import BadInput
from toygan.planning.settings import Mode
from toygan.uploads.indexing import QUIET_S
from toygan.uris import WITHOUT_CREDENTIALS, refuse_credentials


def _bundled_catalog() -> str:
    return str(files("toygan") / "pretrained" / "demo_catalog.parquet")


def _check_cron(text: str) -> str:
    from prefect.client.schemas.schedules import CronSchedule

    return CronSchedule(cron=text).cron


def _check_timezone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("there is no such time zone; give a name such as Europe/Berlin")
    return ZoneInfo(name).key


def _check_location(uri: str) -> str:
    try:
        return refuse_credentials(uri)
    except BadInput as error:
        raise ValueError(str(error)) from None


def _names(value: object) -> object:
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


Location = Annotated[
    str, AfterValidator(_check_location), Field(json_schema_extra={"pattern": WITHOUT_CREDENTIALS})
]


def _default_work() -> str:
    """Returns the folder of retrainings below the user's cache folder (XDG Base Directory Specification).

    Returns an empty text for a user without a home folder. For such a user Prefect cannot be imported, so no
    retraining can run either.
    """
    texts = default_folder()
    return "" if texts is None else str(texts.with_name("retraining"))


class ServiceSettings(BaseSettings):
    """The settings.

    Each field is an environment variable: TOYGAN_STORE, TOYGAN_CATALOG, ... An empty variable counts as not
    set.
    """

    # The defaults are not validated, because the validator of a cron imports Prefect's client.
    model_config = SettingsConfigDict(
        env_prefix="TOYGAN_", env_ignore_empty=True, frozen=True, validate_default=False
    )

    store: Location = "toygan-store"  # a folder or s3://BUCKET/PREFIX
    catalog: Location = Field(default_factory=_bundled_catalog)  # a path or s3://BUCKET/KEY
    mode: Mode = "missing"  # the mode of the nightly runs, see --mode of `toygan generate`
    # With the mode refresh: the largest share of the live pictures that a nightly run generates again.
    refresh_share: float = Field(default=0.1, gt=0, le=1)
    # Nightly runs withdraw the pictures of products that left the catalog. A run stops if these are more than
    # this share of the products with pictures. Unset: no picture is withdrawn.
    retire: float | None = Field(default=None, ge=0, le=1)
    cron: Annotated[str, AfterValidator(_check_cron)] = "0 2 * * *"  # of generate-catalog
    timezone: Annotated[str, AfterValidator(_check_timezone)] = "UTC"  # the time zone of the cron
    # If the service was down at the time of a nightly run, it starts the run later, but at most this many
    # hours late. With 0 it never does.
    grace_h: float = Field(default=6.0, ge=0, le=24)
    watch_interval_s: float = Field(default=30.0, ge=5.0)
    min_new_photos: int = Field(default=20, ge=1)  # a retraining starts when there are this many new photos
    # a retraining begins when nothing has been uploaded for this many seconds
    quiet_s: float = Field(default=QUIET_S, ge=0)
    photos: Location | None = None  # further training photos besides the uploads, such as photo shards
    retrain_images: int = Field(default=64_000, ge=1)  # the largest number of training images of a retraining
    retrain_minutes: float = Field(default=360.0, gt=0)  # the longest time of a whole retraining
    # The folder of the checkpoints, from which an interrupted retraining resumes.
    work: str = Field(default_factory=_default_work)
    # After each generate-catalog the live pictures are exported to these: google,web,/etc/toygan/mine.toml
    channels: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = ()
    # The address (https://...) of the store's folder exports/, for the links in feeds.
    export_url: Location | None = None
    # The number of products in the collage of each category in an export. If unset, no collages are made.
    collage: int | None = Field(default=None, ge=2, le=12)
    device: str = "auto"  # auto, cpu, cuda or cuda:N
    # json: one JSON object per line, with run, shard and category
    log_format: Literal["text", "json"] = "text"
    metrics_port: int | None = Field(
        default=None, ge=1, le=65535
    )  # the port of the metrics for Prometheus; by default no port is open
    # the address of the metrics; with 0.0.0.0 other machines can read them, too
    metrics_address: str = "127.0.0.1"
    runner: Literal["threads", "dask", "ray"] = "threads"  # where the shards of a run are computed
    # the address of a Dask or Ray cluster; by default each run starts a local cluster
    runner_address: Location | None = None
    # The number of shards at a time with the runner `threads`. A killed process loses its active shards. With
    # two, the device has work while the last pictures of a shard are checked.
    shards_at_a_time: int = Field(default=2, ge=1)
    shard_cpus: int = Field(default=2, ge=1)  # the number of cores of a shard on Dask or Ray
    # the number of GPUs of a shard on Ray; with 0.5 two shards share a GPU
    shard_gpus: float = Field(default=0, ge=0)


def service_settings() -> ServiceSettings:
    """Returns the settings of this process. Raises BadInput, whose message names the wrong variable."""
    try:
        return ServiceSettings()
    except ValidationError as error:
        problems = [
            f"TOYGAN_{str(each['loc'][0]).upper()}: {each['msg'].removeprefix('Value error, ')}"
            for each in error.errors()
        ]
        raise BadInput("; ".join(problems)) from None


def check_for_work_pools() -> None:
    """Checks the settings before a run in a work pool, see prefect.yaml.

    A worker removes the folder of a run after the run. Raises BadInput for settings that would put results
    there.
    """
    settings = service_settings()
    for name in ("store", "catalog", "work", "photos"):
        location = getattr(settings, name)
        if location is not None and "://" not in location and not Path(location).is_absolute():
            raise BadInput(
                f"TOYGAN_{name.upper()} is {location!r}; if a worker starts the runs, it has to be an "
                "absolute path or an s3:// URI"
            )
