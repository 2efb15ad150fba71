"""The parameters of the flows, as the forms of Prefect's pages show them.

What is left out is what the process that runs the flow was set up with, see `flows.settings`.
"""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from flows.settings import Location, service_settings
from toygan.images import ImageFormat
from toygan.planning.settings import Mode


class GenerateParameters(BaseModel):
    """What one run of `generate-catalog` draws."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    catalog: Location = Field(
        default_factory=lambda: service_settings().catalog,
        description="The product catalog: Parquet, CSV, TSV, .xlsx, a Shopify export or a Merchant Center "
        "feed; a path or s3://BUCKET/KEY.",
    )
    output: Location = Field(
        default_factory=lambda: service_settings().store,
        description="The store for the pictures: a folder or s3://BUCKET/PREFIX.",
    )
    model: Location | None = Field(
        default=None,
        description="NAME, NAME@VERSION, an alias or ./FOLDER; by default the store's champion, else the "
        "bundled model.",
    )
    sketch_model: Location | None = Field(
        default=None,
        description="The same for products with a sketch_uri; by default the store's champion-sketch, else a "
        "bundled one, else they are drawn like the others.",
    )
    layout_model: Location | None = Field(
        default=None,
        description="The same for products with a layout_uri, which comes before a sketch; by default the "
        "store's champion-layout, else a bundled one, else they are drawn like the others.",
    )
    images_per_product: int = Field(
        default=1, ge=1, le=64, description="Pictures a product, where its row does not say how many."
    )
    categories: tuple[str, ...] = Field(
        default=(), description="Only products of these; by default of all that the model knows."
    )
    columns: Mapping[str, str] = Field(
        default={},
        description="Columns of the catalog that its file calls otherwise, by the catalog's name: "
        '{"title": "Name"}.',
    )
    mode: Mode = Field(
        default_factory=lambda: service_settings().mode,
        description="missing: products without a picture of their present row; refresh: also those drawn by "
        "another model; retry: also those whose attempts are used up, which the two leave alone; all: every "
        "product.",
    )
    refresh_share: float = Field(
        default_factory=lambda: service_settings().refresh_share,
        gt=0,
        le=1,
        description="In the mode refresh at most this share of the live pictures is drawn again.",
    )
    limit: int | None = Field(default=None, ge=1, description="Only the first so many good products.")
    image_format: ImageFormat = Field(default="webp", description="The format of the picture files.")
    device: str = Field(
        default_factory=lambda: service_settings().device, description="auto, cpu, cuda or cuda:N."
    )
    batch_size: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Pictures a batch; by default chosen for model and device. Another size may change the "
        "last bit.",
    )
    run_id: str | None = Field(
        default=None,
        description="Name of the run, given again to go on with one that died; by default the flow run's id.",
    )


class WatchParameters(BaseModel):
    """What one run of `watch-photos` looks at."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    store: Location = Field(
        default_factory=lambda: service_settings().store,
        description="The store with the uploads below photos/: a folder or s3://BUCKET/PREFIX.",
    )
    min_new_photos: int = Field(
        default_factory=lambda: service_settings().min_new_photos,
        ge=1,
        description="So many usable photos that no retraining has seen, and one is asked for.",
    )
    categories: tuple[str, ...] = Field(
        default=(),
        description="Categories that photos may have besides those of the store's champion; photos of any "
        "other go to the quarantine.",
    )


class RetrainParameters(BaseModel):
    """What one run of `retrain` learns from, and when its model is promoted."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    store: Location = Field(
        default_factory=lambda: service_settings().store,
        description="The store with the uploads and the models: a folder or s3://BUCKET/PREFIX.",
    )
    photos: Location | None = Field(
        default_factory=lambda: service_settings().photos,
        description="More photos to learn from and to measure with, such as those that the champion was "
        "trained on: photo shards, or a folder with a subfolder for each category.",
    )
    catalog: Location | None = Field(
        default_factory=lambda: service_settings().catalog,
        description="The product catalog, which says title and colour of uploaded products. A products.csv "
        "beside the photos says the same, and comes first.",
    )
    max_images: int = Field(
        default_factory=lambda: service_settings().retrain_images,
        ge=1,
        description="The length of the training at most, in pictures that are shown to it.",
    )
    max_minutes: float = Field(
        default_factory=lambda: service_settings().retrain_minutes,
        gt=0,
        description="The time of training, calibration and evaluation at most; the training is as long as "
        "fits.",
    )
    recall_loss: float = Field(
        default=0.02, ge=0, le=1, description="By so much recall may fall and the challenger be promoted."
    )
    category_loss: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="By this share the KID of a category may rise, beyond what may be chance, and the "
        "challenger be promoted.",
    )
    pictures: int = Field(
        default=1000,
        ge=10,
        description="Pictures of either model that are measured at most; more take longer.",
    )
    quiet_s: float = Field(
        default_factory=lambda: service_settings().quiet_s,
        ge=0,
        description="Seconds without an upload before the photos are taken.",
    )
    work: str = Field(
        default_factory=lambda: service_settings().work,
        description="The folder with checkpoints, from which a run that died is taken up by the next one.",
    )
    device: str = Field(
        default_factory=lambda: service_settings().device, description="auto, cpu, cuda or cuda:N."
    )
