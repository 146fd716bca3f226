"""What recipes and requests choose by name: samplers, data formats and metrics, with one entry each.

A new one is its code and its entry here. Checks of configurations, OpenAPI and the console's forms read the entries.
This module imports no code of an entry, because processes without PyTorch and NumPy read configurations too: an entry
says where its code is, as "module:name" below `darkroom.model`, and `load` finds it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any, Literal


def load(where: str) -> Any:
    """The code at "module:name", below `darkroom.model`; imports the module."""
    return resolve_name(f"darkroom.model.{where}")


@dataclass(frozen=True)
class Sampler:
    """table: of its steps, a function of schedule and times, and by keyword of `fixed` and of the settings in `takes`.

    takes: the fields of SamplingConfig that only some samplers heed, those that this one does. adds_noise: whatever
    the settings; with an eta above 0 any sampler that takes one does. in_frontier: measured there by default.
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
    """The names of those that heed a setting which not all do."""
    return tuple(name for name, sampler in SAMPLERS.items() if setting in sampler.takes)


@dataclass(frozen=True)
class DataFormat:
    """files: (config, path) -> the files that are read, to notice changes. decode: (config, path, limits) -> `Decoded`.

    upload: what the archive that somebody uploads is; None where this format is no archive. bundled: comes with the
    software, so that it has no path.
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
    """measure: what `model.metrics.evaluation` calls, by kind.

    features: (reference, images, asked) -> FeatureMeasure, in an extractor's features of generated images. Metrics of
    one function are measured together: `asked` has the names.
    pairs: (device) -> PerceptualNetwork, between generated images, two of one class, and the data set's nearest ones.
    denoiser: (denoiser, weights_digest, dataset, config, split, should_stop) -> Figure, without generated images.

    figures: how the names of its figures begin. decides: the first such metric that was measured decides which
    checkpoint of a run is the best. fewest_images: of each side.
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
        # of the distance to the nearest training image, the higher one copies less
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
"""(device) -> FeatureExtractor, in whose features the metrics of the kind `features` compare images."""


def of_kind(kind: str, asked: Iterable[str]) -> list[str]:
    """Those of the metrics asked for that are of a kind, in the order of their entries."""
    wanted = set(asked)
    return [name for name, metric in METRICS.items() if name in wanted and metric.kind == kind]
