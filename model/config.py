"""The complete configuration of a model and of its training. A recipe holds it, and a checkpoint repeats it.

Every class refuses unknown fields, so a misspelt option is an error and never a silent default.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError, field_validator, model_validator

from darkroom.model.extension_points import EXTRACTORS, FORMATS, METRICS, SAMPLERS, samplers_with
from darkroom.model.metric_names import DECIDING
from darkroom.model.user_error import UserError, fault_text

if TYPE_CHECKING:  # mypy cannot evaluate a Literal whose names come from a registry
    SamplerName = str
    DatasetFormat = str
    UploadFormat = str
    MetricName = str
    ExtractorName = str
else:
    SamplerName = Literal[tuple(SAMPLERS)]
    DatasetFormat = Literal[tuple(FORMATS)]
    UploadFormat = Literal[tuple(name for name, one in FORMATS.items() if one.upload is not None)]
    MetricName = Literal[tuple(METRICS)]
    ExtractorName = Literal[tuple(EXTRACTORS)]
ScheduleName = Literal["cosine", "linear"]
PredictionName = Literal["eps", "x0", "v"]
SpacingName = Literal["trailing", "log_snr", "edm", "edm_coarse"]
ThresholdName = Literal["none", "static", "dynamic"]
GuideName = Literal["unconditional", "snapshot"]
VarianceName = Literal["beta", "beta_tilde", "learned"]
FRONTIER_SAMPLERS: tuple[SamplerName, ...] = tuple(name for name, one in SAMPLERS.items() if one.in_frontier)
_NOISY = tuple(name for name, one in SAMPLERS.items() if one.adds_noise)
Quality = Literal["fast", "balanced", "best"]

Fraction = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
LARGEST = 1e9
"""Bound of numbers whose size costs nothing. Every number of a recipe has a bound."""
MOST_CLASSES = 10_000
"""Most classes that a recipe names."""
MOST_IMAGES = 10**15
"""Bound of numbers of training images, which fit a database's and a browser's numbers."""
Positive = Annotated[float, Field(gt=0.0, le=LARGEST, allow_inf_nan=False)]
NoiseLevel = Annotated[float, Field(ge=0.0, le=LARGEST, allow_inf_nan=False)]
Guidance = Annotated[float, Field(ge=0.0, le=100.0, allow_inf_nan=False)]
Fit = Literal["crop", "pad", "stretch"]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
Steps = Annotated[int, Field(ge=1, le=1000)]


class RecipeError(UserError, ValueError):
    """A recipe that cannot be read or is not valid; the message names the file and each faulty field."""


class SettingsError(UserError, ValueError):
    """Settings that are unknown, not valid or do not go together; the message names them."""


ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""The name of a model, or of the recipe that trains it; part of addresses and file names."""


class Config(BaseModel):
    """Base of all configuration classes: immutable, and strict about unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Kind = TypeVar("Kind", bound=Config)


class ScheduleConfig(Config):
    """The noise schedule (`model/diffusion/schedule.py`)."""

    name: ScheduleName = Field("cosine", description="how the noise grows with time")
    steps: int = Field(1000, ge=2, le=1_000_000, description="T, the number of diffusion steps")


class UNetConfig(Config):
    """The network (`model/diffusion/unet.py`). `width` is the channel count of the first level after the stem."""

    patch_size: int = Field(
        1, ge=1, le=16, description="side of the pixel blocks that become one cell of the network's maps"
    )
    width: int = Field(128, ge=4, le=2048, multiple_of=2, description="channels of the first level")
    multipliers: tuple[Annotated[int, Field(le=64)], ...] = Field(
        (1, 2, 2), min_length=1, max_length=8, description="one level each: its channels are width times this"
    )
    blocks_per_level: int = Field(2, ge=1, le=16, description="residual blocks, one more on the way up")
    attention_resolutions: tuple[Annotated[int, Field(le=1024)], ...] = Field(
        (16, 8), max_length=8, description="sides of the feature maps, in cells, that get self-attention"
    )
    middle_attention: bool = Field(True, description="self-attention between the middle's two residual blocks")
    attention_head_channels: int = Field(32, ge=1, le=4096, description="channels of one attention head")
    norm_groups: int = Field(
        32, ge=1, le=4096, description="groups of each group norm; must divide every level's channels"
    )
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="share of activations dropped in training")
    residual_scale: Positive = Field(1.0, description="multiplies each residual sum; 0.7071 is 1/sqrt(2)")
    learned_variance: bool = Field(False, description="a second output for each pixel: the variance of ddpm's steps")

    def feature_sizes(self, image_size: int) -> list[int]:
        """Return the side of each level's feature map, in cells of `patch_size` pixels."""
        return [image_size // self.patch_size // 2**level for level in range(len(self.multipliers))]

    @model_validator(mode="after")
    def _check(self) -> Self:
        for multiplier in self.multipliers:
            channels = self.width * multiplier
            if multiplier < 1 or channels % self.norm_groups:
                raise ValueError(f"{channels} channels cannot be split into {self.norm_groups} norm groups")
        return self

    def require_image_size(self, image_size: int) -> None:
        """Raise ValueError when the network cannot draw square images of that side, in pixels."""
        total = self.patch_size * 2 ** (len(self.multipliers) - 1)
        if image_size % total:
            raise ValueError(f"image_size {image_size} is not divisible by the total downsampling {total}")
        sizes = self.feature_sizes(image_size)
        for size in self.attention_resolutions:
            if size not in sizes:
                raise ValueError(f"attention resolution {size} is not a level of this network; its levels are {sizes}")
        attended = [m for m, s in zip(self.multipliers, sizes, strict=True) if s in self.attention_resolutions]
        for multiplier in (*attended, *([self.multipliers[-1]] if self.middle_attention else [])):
            if self.width * multiplier % self.attention_head_channels:
                raise ValueError(
                    f"{self.width * multiplier} channels cannot be split into heads of {self.attention_head_channels}"
                )


class ModelConfig(Config):
    """Everything that rebuilds the denoiser from a weights file."""

    schedule: ScheduleConfig = ScheduleConfig()
    prediction: PredictionName = Field("eps", description="the network's output: the noise, the clean image, or v")
    image_channels: int = Field(3, ge=1, le=16, description="1 for grey, 3 for colour")
    image_size: int = Field(32, ge=4, le=1024, description="side of the square image in pixels")
    unet: UNetConfig = UNetConfig()

    @property
    def learned_variance(self) -> bool:
        """True when the network also predicts the variance of ddpm's steps."""
        return self.unet.learned_variance

    @model_validator(mode="before")
    @classmethod
    def _moved(cls, data: Any) -> Any:
        return image_form_moved(data)

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.unet.require_image_size(self.image_size)
        return self


IMAGE_FORM = ("image_channels", "image_size")
MOVED: Mapping[tuple[str, ...], tuple[str, ...]] = {("model", "unet", name): ("model", name) for name in IMAGE_FORM}
"""Fields of a recipe that have moved: old place -> new place."""


def image_form_moved(data: Any) -> Any:
    """Return plain data of a ModelConfig with the fields of IMAGE_FORM moved out of `unet`, their place in older files.

    Raises ValueError when both places have a field and they differ.
    """
    if not isinstance(data, Mapping) or not isinstance(data.get("unet"), Mapping):
        return data
    # After a validator like this one, pydantic's strict JSON mode no longer accepts a list for a tuple.
    unet = {name: tuple(value) if isinstance(value, list) else value for name, value in data["unet"].items()}
    moved = {name: unet.pop(name) for name in IMAGE_FORM if name in unet}
    for name, value in moved.items():
        if data.get(name, value) != value:
            raise ValueError(
                f"{name} is {data[name]}, but unet.{name}, its old place, says {value}: remove unet.{name}"
            )
    return {**data, **moved, "unet": unet}


class TimeSamplingConfig(Config):
    """The times that training draws (`model/training/time_sampling.py`): uniform, or by a density over the log-SNR."""

    name: Literal["uniform", "normal", "laplace"] = Field(
        "uniform",
        description="uniform: all times alike; normal, laplace: a density over the log-SNR, log(alpha^2 / sigma^2)",
    )
    mean: Annotated[float, Field(ge=-20.0, le=20.0)] = Field(0.5, description="centre of the density")
    scale: Annotated[float, Field(ge=0.1, le=20.0)] = Field(
        2.0, description="the normal's standard deviation, or the Laplace density's b"
    )


class ObjectiveConfig(Config):
    """The training loss (`model/training/objective.py`)."""

    weighting: Literal["simple", "min_snr"] = Field(
        "simple",
        description="simple: every time counts alike; min_snr: the weight min(SNR, gamma) on the image's error",
    )
    min_snr_gamma: Positive = Field(5.0, description="gamma of min_snr")
    label_drop: Fraction = Field(
        0.1, description="share of images trained without their class, which guide `unconditional` needs"
    )
    times: TimeSamplingConfig = TimeSamplingConfig()
    vlb_weight: float = Field(
        0.001,
        ge=0.0,
        le=LARGEST,
        allow_inf_nan=False,
        description="weight of the variational bound that trains model.unet.learned_variance",
    )


class EMAConfig(Config):
    """The exponential moving average of the weights (`model/training/ema.py`)."""

    decay: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.9999, description="share of the average that one iteration keeps; `power` does not use it"
    )
    warmup: Literal["copy", "ramp", "power"] = Field(
        "copy",
        description="copy: a copy of the weights for warmup_iterations, then decay; ramp: the decay "
        "min(decay, (1 + n) / (10 + n)) from the first iteration n, for short runs; power: an average over the share "
        "relative_length of the run so far, at any length of the run",
    )
    warmup_iterations: int = Field(2000, ge=0, le=MOST_IMAGES, description="iterations of `copy`")
    relative_length: Annotated[float, Field(ge=0.01, le=0.25)] = Field(0.1, description="standard deviation of `power`")


class OptimizerConfig(Config):
    """The optimizer, its learning-rate schedule and gradient clipping.

    With `muon` (`model/training/muon.py`), Muon updates the weights between stem and head, and AdamW the others.
    """

    name: Literal["adamw", "muon"] = Field(
        "adamw", description="muon updates the weights between the first and the last layer, and AdamW the others"
    )
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(0.95, description="momentum of muon")
    learning_rate: Positive = Field(2e-4, description="after the warm-up")
    warmup_images: int = Field(0, ge=0, le=MOST_IMAGES, description="images over which the learning rate rises from 0")
    decay: Literal["constant", "cosine"] = Field(
        "constant", description="cosine: the learning rate falls to 0 at the end of the run"
    )
    weight_decay: Annotated[float, Field(ge=0.0, le=LARGEST, allow_inf_nan=False)] = Field(
        0.0, description="decoupled weight decay of both optimizers"
    )
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.999), description="averages of AdamW")
    gradient_clip: Positive | None = Field(1.0, description="largest global gradient norm; null turns it off")


FIT = "how a picture becomes square: crop keeps its centre, pad adds `ground`, stretch changes its proportions"
GROUND = "colour behind transparent pixels and of the padding, as #rrggbb"
SKIP_DAMAGED = "leave out pictures that cannot be read, instead of refusing all"


class DatasetConfig(Config):
    """Where the images are and how to read them (`model/datasets/`)."""

    format: DatasetFormat = Field(description="form of the files")
    path: Path | None = Field(None, description="file or folder; null for the bundled digits")
    split: Literal["train", "test", "all"] = Field("train", description="all: the train split, then the test split")
    image_size: int | None = Field(
        None, ge=4, le=1024, description="side in pixels to scale to, by `fit`; null: as stored"
    )
    fit: Fit = Field("crop", description=FIT)
    ground: Colour = Field("#ffffff", description=GROUND)
    skip_damaged: bool = Field(False, description=SKIP_DAMAGED)
    class_names: tuple[str, ...] | None = Field(
        None, max_length=MOST_CLASSES, description="names of the classes for formats that carry none, by number"
    )


class SamplingConfig(Config):
    """The sampling settings: a recipe sets them, a weights file carries them, a request may change them.

    Only this class has their names, bounds, defaults and descriptions. Requests, answers, the console and
    `darkroom generate --set` read them from here.
    """

    guidance: Guidance = Field(1.0, description="weight w: 0 is unconditional, 1 conditional, more than 1 guided")
    guidance_interval: Annotated[tuple[NoiseLevel, NoiseLevel], Strict(False)] | None = Field(  # JSON has no tuples
        None,
        description="[low, high] in sigma/alpha: at other noise levels guidance is 1 and a step costs one network row; "
        "[0, 1000000] guides every step",
    )
    guide: GuideName = Field(
        "unconditional",
        description="the prediction that guidance moves away from: unconditional: the network's without a class; "
        "snapshot: that of an earlier network, if the model carries one (`snapshot_images` in GET /v1/models)",
    )
    sampler: SamplerName = Field(
        "ddim",
        description=f"{', '.join(_NOISY)} and, with eta, {', '.join(samplers_with('eta'))} add noise at each step; the "
        "others are deterministic",
        json_schema_extra={"x-adds-noise": list(_NOISY)},
    )
    steps: Steps = Field(50, description="each costs one network row, or two where it is guided")
    spacing: SpacingName = Field(
        "trailing",
        description="noise levels of the steps: evenly in time from pure noise (trailing), or from sigma/alpha = 80 "
        "evenly in log-SNR (log_snr) or by EDM's polynomial (edm; edm_coarse ends at 0.08, as training rarely draws "
        "lower levels)",
    )
    threshold: ThresholdName = Field(
        "dynamic",
        description="keeps each step's estimate of the image within the pixels' range: static clamps it, dynamic "
        "also divides it by a percentile of its absolute values where that exceeds the range",
    )
    percentile: float = Field(
        0.995,
        gt=0.0,
        le=1.0,
        allow_inf_nan=False,
        description="share of an image's values that dynamic thresholding leaves within the range",
        json_schema_extra={"x-only-with": {"threshold": ["dynamic"]}},
    )
    eta: Fraction = Field(
        0.0,
        description=f"noise of {', '.join(samplers_with('eta'))}: 0 is deterministic, 1 is ancestral",
        json_schema_extra={"x-only-with": {"sampler": list(samplers_with("eta"))}},
    )
    variance: VarianceName = Field(
        "beta_tilde",
        description=f"variance of the steps of {', '.join(samplers_with('variance'))}; `learned` needs a model with "
        "learned variances (`model.unet.learned_variance`)",
        json_schema_extra={"x-only-with": {"sampler": list(samplers_with("variance"))}},
    )

    @field_validator("guidance_interval")
    @classmethod
    def _rising(cls, interval: tuple[float, float] | None) -> tuple[float, float] | None:
        if interval is not None and interval[0] >= interval[1]:
            raise ValueError(f"the interval's low end {interval[0]:g} must be below its high end {interval[1]:g}")
        return interval

    @property
    def unconditional(self) -> bool:
        """True when the class has no effect: guidance 0 and guide `unconditional` at every step."""
        return self.guidance == 0.0 and self.guide == "unconditional" and self.guidance_interval is None

    def effective(self) -> dict[str, Any]:
        """Return the settings as plain data, with None for settings that have no effect because of another one.

        A field that `idle` does not name counts as having an effect, so that protocols of different evaluations
        never look equal.
        """
        idle = {
            "percentile": self.threshold != "dynamic",
            **{name: name not in SAMPLERS[self.sampler].takes for name in ("eta", "variance")},
            "guidance_interval": self.guidance == 1.0,
            "guide": self.guidance == 1.0,
        }
        return {name: None if idle.get(name) else value for name, value in self.model_dump(mode="json").items()}


SAMPLER_SETTINGS = ("sampler", "steps", "spacing", "eta", "variance")
"""The fields that a choice from the frontier (`model/metrics/frontier.py`) sets. The others come from the request or
from the model's own settings."""


class TrainingConfig(Config):
    """Length, batch and checkpoints of a run; everything is counted in images."""

    total_images: int = Field(
        ge=1, le=MOST_IMAGES, description="length of the run; an image counts each time that it is seen"
    )
    minutes: Positive | None = Field(
        None,
        description="end the run by the clock: after this time, its evaluations included. total_images then only says "
        "what share of the run the other fields in images mean; null: the run ends at total_images",
    )
    batch_size: int = Field(128, ge=1, le=65_536, description="images in a batch, over all devices")
    seed: int = Field(0, ge=0, lt=2**63, description="decides the first weights, the order of images and the noise")
    horizontal_flip: bool | Annotated[tuple[str, ...], Field(max_length=MOST_CLASSES)] = Field(
        False, description="mirror half of the images: of all classes, or of those with these names"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16 is faster on GPUs, and on those CPUs that have instructions for it"
    )
    compile: bool | None = Field(
        None,
        exclude_if=lambda compiled: compiled is None,  # so that earlier versions read the file
        description="compile the network with torch.compile; null: on a GPU, if a compiler works there and "
        "`DARKROOM_DETERMINISTIC` is not set",
    )
    devices: int = Field(
        1, ge=1, le=64, description="processes, one for each device, that share every batch (DistributedDataParallel)"
    )
    guide_snapshot_images: int | None = Field(
        None,
        ge=1,
        le=MOST_IMAGES,
        description="keep the EMA weights after this many images in all later checkpoints, as the snapshot that guides "
        "sampling (about 1/16 of the run; Karras et al. 2024)",
    )
    checkpoint_every_images: int = Field(
        ge=1, le=MOST_IMAGES, description="images between two checkpoints; one more at the end"
    )
    sample_every_images: int = Field(
        ge=1, le=MOST_IMAGES, description="images between two sample grids; one more at the end"
    )
    early_verdict: Literal["off", "tell", "stop"] = Field(
        "stop",
        description="look at losses and pictures at each sample grid. tell: findings become events of the job, and "
        "`promote: best` refuses a model that fails; stop: also end a hopeless run, whose loss has exploded, or that "
        "draws noise after seven tenths and has learned nothing; off: do not look",
    )
    samples_per_class: int = Field(8, ge=1, le=64, description="pictures of each class in a sample grid")

    def flipped(self, class_names: Sequence[str]) -> list[bool]:
        """Return for each class whether half of its images are mirrored."""
        chosen = self.horizontal_flip
        return [chosen if isinstance(chosen, bool) else name in chosen for name in class_names]


class EvaluationConfig(Config):
    """How checkpoints of a run are evaluated (`model/metrics/`): generated images against the data set's.

    The first metric in the order of `DECIDING` decides which checkpoint is the best one.
    """

    every_images: int = Field(
        ge=1, le=MOST_IMAGES, description="training images between two evaluations; one more at the end"
    )
    metrics: tuple[MetricName, ...] = Field(
        ("fid",), min_length=1, max_length=100, description="all are measured on the same generated images"
    )
    extractor: ExtractorName = Field("efficientnet-lite0", description="network whose features are compared")
    images: int = Field(
        1000, ge=2, le=10_000_000, description="generated images; their classes have the data set's proportions"
    )
    batch_images: int = Field(64, ge=1, le=65_536, description="images drawn together")
    seed: int = Field(0, ge=0, lt=2**63, description="decides the generated images and the bound's noise")
    steps: Steps | None = Field(None, description="null: sampling.steps of the recipe")
    guidance: Guidance | None = Field(None, description="null: sampling.guidance of the recipe")
    frontier_steps: tuple[Steps, ...] = Field(
        (),
        max_length=100,
        description="step counts of the last checkpoint's frontier: fid at each, by each of frontier_samplers; with "
        "few images all settings look alike",
    )
    frontier_samplers: tuple[SamplerName, ...] = Field(
        FRONTIER_SAMPLERS, min_length=1, max_length=100, description="samplers of the frontier"
    )
    bound_images: int = Field(
        200, ge=1, le=10_000_000, description="bits_per_dimension: real images, evenly spaced in the data set"
    )
    bound_times: int | None = Field(
        50, ge=2, le=1_000_000, description="bits_per_dimension: times of each image; null takes all T"
    )
    bound_variance: VarianceName = Field("beta", description="bits_per_dimension: variance of the reverse steps")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError("a metric is named twice")
        if self.frontier_steps and "fid" not in self.metrics:
            raise ValueError("frontier_steps needs fid among the metrics, because a frontier measures it")
        return self


class Recipe(Config):
    """A whole experiment: `darkroom train recipes/NAME.yaml` runs one."""

    name: ModelName = Field(description="what the run, and the model that it trains, is called")
    description: str = Field("", description="one line for people who choose a recipe")
    dataset: DatasetConfig
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    ema: EMAConfig = EMAConfig()
    training: TrainingConfig
    sampling: SamplingConfig = SamplingConfig()
    evaluation: EvaluationConfig | None = Field(None, description="null: checkpoints are not evaluated")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.evaluation is not None and not set(self.evaluation.metrics) & set(DECIDING):
            raise ValueError(
                f"evaluation.metrics needs one of {', '.join(DECIDING)}: it decides which checkpoint is best"
            )
        snapshot, total = self.training.guide_snapshot_images, self.training.total_images
        if snapshot is not None and snapshot > total:
            raise ValueError(
                f"training.guide_snapshot_images {snapshot} is more than training.total_images {total}: set it "
                "lower, or to null for no snapshot"
            )
        if self.sampling.guide == "snapshot" and snapshot is None:
            raise ValueError("sampling.guide snapshot needs training.guide_snapshot_images: say when to keep it")
        wanted = {"sampling.variance": self.sampling.variance}
        if self.evaluation is not None:
            wanted["evaluation.bound_variance"] = self.evaluation.bound_variance
        for name, variance in wanted.items():
            if variance == "learned" and not self.model.learned_variance:
                raise ValueError(f"{name} learned needs model.unet.learned_variance")
        return self


def faults_of(error: ValidationError, whole: str = "settings") -> str:
    """Each faulty field and what is wrong with it, in one line. whole: named where no single field is faulty."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or whole}: {fault_text(e)}" for e in error.errors())


def require_known(named: Iterable[str], settings: Iterable[str]) -> None:
    """Raises SettingsError, which lists the settings, for a name that is none of them."""
    known = set(settings)
    unknown = sorted(set(named) - known)
    if unknown:
        raise SettingsError(f"{', '.join(unknown)}: no such setting; there are {', '.join(sorted(known))}")


def require_numbers(named: Mapping[str, Any], config: Config) -> None:
    """Raise SettingsError for a text or a truth value where `config` has a number. Pydantic takes "2" and True."""
    for name, value in named.items():
        if isinstance(value, str | bool) and type(getattr(config, name)) in (int, float):
            raise SettingsError(f"{name} is {value!r}: give a number, without quotes")


def changed(config: Kind, changes: Mapping[str, Any]) -> Kind:
    """The configuration with some fields changed; raises SettingsError for values that are not valid."""
    try:
        return type(config).model_validate({**config.model_dump(), **changes})
    except ValidationError as error:
        raise SettingsError(faults_of(error)) from error


def set_field(data: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a field in the plain data of a recipe. path: the parts of its dotted name; an old name means the new place.

    A missing section is added. A section given as a mapping changes only the fields that it names.
    Raises SettingsError when a part of the path is no section.
    """
    *sections, field = MOVED.get(tuple(path), path)
    here = data
    for part in sections:
        if here.get(part) is None:
            here[part] = {}
        if not isinstance(here[part], dict):
            raise SettingsError(f"{part} in {'.'.join(map(str, path))} has no fields of its own")
        here = here[part]
    if not isinstance(value, Mapping):
        here[field] = value
        return
    if not isinstance(here.get(field), dict):
        here[field] = {}
    for key, one in value.items():
        set_field(data, (*path, key), one)


def parse_recipe(data: Any, *, source: str) -> Recipe:
    """Validate plain data as a recipe; raises RecipeError naming `source` and every faulty field."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError(f"{source}: {faults_of(error, 'recipe')}") from error


def load_recipe(path: Path) -> Recipe:
    """Read a recipe from a YAML file; raises RecipeError when it is missing, not YAML or not valid."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    return parse_recipe(data, source=str(path))
