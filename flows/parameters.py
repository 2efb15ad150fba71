"""The parameters of the flows, as the forms of Prefect's pages show them.

A parameter that is not given takes its value from the settings (`flows.settings`) of the process that runs
the flow.
"""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from flows.options import BATCH_SIZE_HELP, DEVICE_HELP, MODE_HELP
from flows.settings import Location, service_settings
from toygan.conditions.condition_types import ModelRole
from toygan.images import ImageFormat
from toygan.planning.settings import Mode


class GenerateParameters(BaseModel):
    """The parameters of a run of `generate-catalog`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    catalog: Location = Field(
        default_factory=lambda: service_settings().catalog,
        description="The product catalog: Parquet, CSV, TSV, .xlsx, a Shopify export or a Merchant Center "
        "feed, or a folder of snapshots; a path or s3://BUCKET/KEY.",
    )
    output: Location = Field(
        default_factory=lambda: service_settings().store,
        description="The store for the pictures: a folder or s3://BUCKET/PREFIX.",
    )
    models: Mapping[ModelRole, Location] = Field(
        default={},
        description='{"main": "NAME"} and more: NAME, NAME@VERSION, an alias, ./FOLDER or hf:OWNER/NAME for '
        "each of main, sketch, layout and photo. A product that has a photo_uri gets the photo model, else "
        "one with a layout_uri the layout model, else one with a sketch_uri the sketch model, else the main "
        "one. By default these are the store's champions, else the bundled models.",
    )
    images_per_product: int = Field(
        default=1,
        ge=1,
        le=64,
        description="The number of pictures of each product whose row does not give images_wanted.",
    )
    categories: tuple[str, ...] = Field(
        default=(),
        description="Only products of these categories; by default of all categories of the models.",
    )
    columns: Mapping[str, str] = Field(
        default={},
        description="Columns with other names in the file: the contract's name, then the file's, such as "
        '{"title": "Name"}.',
    )
    mode: Mode = Field(
        default_factory=lambda: service_settings().mode,
        description=MODE_HELP,
    )
    retire: float | None = Field(
        default_factory=lambda: service_settings().retire,
        ge=0,
        le=1,
        description="Withdraw the pictures of products that left the catalog; the run stops at its start if "
        "these are more than this share of the products with pictures. Empty: withdraw none.",
    )
    refresh_share: float = Field(
        default_factory=lambda: service_settings().refresh_share,
        gt=0,
        le=1,
        description="With the mode refresh: the largest share of the live pictures that is generated again.",
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        description="The largest number of products. The first good products of the catalog are taken.",
    )
    image_format: ImageFormat = Field(default="webp", description="The format of the picture files.")
    device: str = Field(default_factory=lambda: service_settings().device, description=DEVICE_HELP)
    batch_size: int | None = Field(default=None, description=BATCH_SIZE_HELP)
    run_id: str | None = Field(
        default=None,
        description="Name of the run; the name of an interrupted run resumes it. Default: the flow run's id.",
    )


class WatchParameters(BaseModel):
    """The parameters of a run of `watch-photos`: its store, and when it asks for a retraining."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    store: Location = Field(
        default_factory=lambda: service_settings().store,
        description="The store with the uploads below photos/: a folder or s3://BUCKET/PREFIX.",
    )
    min_new_photos: int = Field(
        default_factory=lambda: service_settings().min_new_photos,
        ge=1,
        description="The flow asks for a retraining when there are this many good photos that no retraining "
        "has used.",
    )
    categories: tuple[str, ...] = Field(
        default=(),
        description="More categories that photos may have, besides those of the store's champion; photos of "
        "any other category go to the quarantine.",
    )


class ExportParameters(BaseModel):
    """The parameters of a run of `export-channel`: the channels, and the addresses for links in feeds."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    channels: tuple[str, ...] = Field(
        default_factory=lambda: service_settings().channels,
        description="Names of channels, or paths of .toml files, see toygan/channels/README.md.",
    )
    output: Location = Field(
        default_factory=lambda: service_settings().store,
        description="The store with the pictures: a folder or s3://BUCKET/PREFIX.",
    )
    base_url: Location | None = Field(
        default_factory=lambda: service_settings().export_url,
        description="The address (https://...) at which the store's folder exports/ can be read. Without it, "
        "feeds with links are not written.",
    )
    collage: int | None = Field(
        default_factory=lambda: service_settings().collage,
        ge=2,
        le=12,
        description="The number of products in the collage of each category; empty: make no collages.",
    )


class RetrainParameters(BaseModel):
    """The parameters of a run of `retrain`: its photos, its limits, and the rules for a promotion."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    store: Location = Field(
        default_factory=lambda: service_settings().store,
        description="The store with the uploads and the models: a folder or s3://BUCKET/PREFIX.",
    )
    photos: Location | None = Field(
        default_factory=lambda: service_settings().photos,
        description="More photos for training and measuring, such as the training photos of the champion: "
        "photo shards, or a folder with a subfolder for each category.",
    )
    catalog: Location | None = Field(
        default_factory=lambda: service_settings().catalog,
        description="The product catalog with the titles and colours of uploaded products. A products.csv "
        "beside the photos takes precedence.",
    )
    max_images: int = Field(
        default_factory=lambda: service_settings().retrain_images,
        ge=1,
        description="The largest number of training images. A photo counts each time that the networks are "
        "trained on it.",
    )
    max_minutes: float = Field(
        default_factory=lambda: service_settings().retrain_minutes,
        gt=0,
        description="The longest time of training, calibration and evaluation together; the training is "
        "shortened to fit.",
    )
    recall_loss: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="The challenger may be promoted if recall falls by at most this much.",
    )
    category_loss: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="The challenger may be promoted if no category's KID rises by more than this share of "
        "the champion's, plus the standard error.",
    )
    pictures: int = Field(
        default=1000,
        ge=10,
        description="The largest number of pictures of each model for the comparison. More take longer.",
    )
    quiet_s: float = Field(
        default_factory=lambda: service_settings().quiet_s,
        ge=0,
        description="The run waits until no photo has been uploaded for this many seconds.",
    )
    work: str = Field(
        default_factory=lambda: service_settings().work,
        description="The folder for checkpoints, from which the next run resumes an interrupted one.",
    )
    device: str = Field(default_factory=lambda: service_settings().device, description=DEVICE_HELP)
