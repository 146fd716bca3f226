"""Entries for everything that recipes and requests choose by name: samplers, data formats, metrics and extractors.

To add one, write its code and its entry here. Checks of configurations, OpenAPI and the console's forms read the
entries. This module does not import the entries' code, because processes without PyTorch and NumPy read configurations
too. An entry names its code as "module:name" below `darkroom.model`, and `load` imports it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any, Literal


def load(where: str) -> Any:
    """Import and return the object at "module:name", below `darkroom.model`."""
    return resolve_name(f"darkroom.model.{where}")


@dataclass(frozen=True)
class Sampler:
    """A sampler's entry.

    table: (schedule, times, and by keyword `fixed` and the settings in `takes`) -> StepTable.
    takes: the fields of SamplingConfig that this sampler uses and some others ignore.
    adds_noise: at all settings. A sampler that takes eta also adds noise when eta is above 0.
    in_frontier: True when a frontier measures it by default.
    """

    table: str
    takes: tuple[str, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    adds_noise: bool = False
    in_frontier: bool = False


SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        "ddpm": Sampler("samplers.ddpm:ddpm", takes=("variance",), adds_noise=True, in_frontier=True),
        "ddim": Sampler("samplers.ddim:ddim", takes=("eta",), in_frontier=True),
        "dpmpp_2m": Sampler("samplers.dpmpp:dpmpp", fixed={"order": 2}, in_frontier=True),
        "dpmpp_3m": Sampler("samplers.dpmpp:dpmpp", fixed={"order": 3}),
        "unipc": Sampler("samplers.unipc:unipc", fixed={"order": 2}, in_frontier=True),
        "unipc_3": Sampler("samplers.unipc:unipc", fixed={"order": 3}),
        "ipndm": Sampler("samplers.ipndm:ipndm", fixed={"order": 4}, in_frontier=True),
        "ipndm_3": Sampler("samplers.ipndm:ipndm", fixed={"order": 3}),
        "ipndm_2": Sampler("samplers.ipndm:ipndm", fixed={"order": 2}),
    }
)


def samplers_with(setting: str) -> tuple[str, ...]:
    """Return the names of the samplers that take `setting`."""
    return tuple(name for name, sampler in SAMPLERS.items() if setting in sampler.takes)


@dataclass(frozen=True)
class DataFormat:
    """A data format's entry.

    files: (config, path) -> the files that it reads, to notice changes.
    decode: (config, path, limits, on_progress) -> `Decoded`.
    upload: describes the archive that a user uploads; None when the format cannot be uploaded.
    bundled: True when the images come with the software, so that there is no path.
    """

    files: str
    decode: str
    upload: str | None = None
    bundled: bool = False


_PUBLISHED = "the published archive"

FORMATS: Mapping[str, DataFormat] = MappingProxyType(
    {
        "zip": DataFormat("datasets.zip_folder:zip_files", "datasets.zip_folder:decode_zip", "of class folders"),
        "npz": DataFormat("datasets.npz:npz_files", "datasets.npz:decode_npz", "arrays images, labels and class_names"),
        "idx": DataFormat("datasets.idx:idx_files", "datasets.idx:decode_idx", "a zip or tar of the two IDX files"),
        "cifar10": DataFormat("datasets.cifar10:cifar10_files", "datasets.cifar10:decode_cifar10", _PUBLISHED),
        "stl10": DataFormat("datasets.stl10:stl10_files", "datasets.stl10:decode_stl10", _PUBLISHED),
        "folder": DataFormat("datasets.folder:folder_files", "datasets.folder:decode_folder"),
        "digits": DataFormat("datasets.digits:digits_files", "datasets.digits:decode_digits", bundled=True),
    }
)


@dataclass(frozen=True)
class Metric:
    """A metric's entry. measure: what `model.metrics.evaluation` calls; its form depends on `kind`.

    features: (reference, images, asked) -> FeatureMeasure, on an extractor's features of generated images. Metrics
    with the same function are measured together; `asked` has their names.
    pairs: (device) -> PerceptualNetwork, whose distances compare generated images of a class with each other, and
    generated images with the nearest ones of the data set.
    denoiser: (denoiser, weights_digest, dataset, config, split, should_stop) -> Figure, without generated images.

    figures: prefixes of its figures' names.
    decides: True when it may decide which checkpoint of a run is the best; the first such metric of a run does.
    fewest_images: least number of images on each side.
    """

    kind: Literal["features", "pairs", "denoiser"]
    measure: str
    figures: tuple[str, ...]
    decides: bool = False
    higher_is_better: bool = False
    fewest_images: int = 1


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "fid": Metric("features", "metrics.feature_measures:frechet_measure", ("fid-",), decides=True, fewest_images=2),
        "kid": Metric("features", "metrics.feature_measures:sample_measure", ("kid-",), decides=True, fewest_images=2),
        "bits_per_dimension": Metric(
            "denoiser", "metrics.evaluation:bound_evaluation", ("bits-per-dimension",), decides=True
        ),
        "precision_recall": Metric(
            "features",
            "metrics.feature_measures:sample_measure",
            ("precision-", "recall-"),
            higher_is_better=True,
            fewest_images=4,  # an image and its three neighbours
        ),
        "confidence": Metric(
            "features",
            "metrics.feature_measures:confidence_measure",
            ("confidence-",),
            higher_is_better=True,
        ),
        # a greater distance to the nearest training image means less copying
        "perceptual": Metric(
            "pairs", "metrics.efficientnet:EfficientNetLite0", ("perceptual-",), higher_is_better=True
        ),
        "lpips": Metric("pairs", "metrics.lpips:LPIPS", ("lpips-",), higher_is_better=True),
    }
)

EXTRACTORS: Mapping[str, str] = MappingProxyType(
    {
        "efficientnet-lite0": "metrics.efficientnet:EfficientNetLite0",
        "inception": "metrics.inception:Inception",
    }
)
"""Networks, (device) -> FeatureExtractor, whose features the metrics of the kind `features` compare."""


def of_kind(kind: str, asked: Iterable[str]) -> list[str]:
    """Return the metrics in `asked` that are of a kind, in the order of their entries."""
    wanted = set(asked)
    return [name for name, metric in METRICS.items() if name in wanted and metric.kind == kind]
