"""A sampler, a data format or a metric needs only its code and one entry."""

import inspect
import subprocess
import sys
from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from darkroom.model.config import (
    FRONTIER_SAMPLERS,
    DatasetFormat,
    EvaluationConfig,
    ExtractorName,
    MetricName,
    SamplerName,
    SamplingConfig,
    ScheduleConfig,
)
from darkroom.model.extension_points import EXTRACTORS, FORMATS, METRICS, SAMPLERS, Metric, Sampler, load, of_kind
from darkroom.model.metric_names import DECIDING, decision_order, higher_is_better
from darkroom.model.metrics.precision_recall import NEIGHBOURS
from darkroom.model.samplers import step_table

PLACES = [
    *(sampler.table for sampler in SAMPLERS.values()),
    *(place for one in FORMATS.values() for place in (one.files, one.decode)),
    *(metric.measure for metric in METRICS.values()),
    *EXTRACTORS.values(),
]


@pytest.mark.parametrize("place", sorted(set(PLACES)))
def test_every_entry_says_where_its_code_is(place: str) -> None:
    code = load(place)
    assert callable(code)
    assert f"{code.__module__}:{code.__qualname__}" == f"darkroom.model.{place}"


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=list(SAMPLERS))
def test_a_samplers_table_takes_what_its_entry_says(sampler: Sampler) -> None:
    parameters = list(inspect.signature(load(sampler.table)).parameters)
    assert sorted(parameters) == sorted(["schedule", "times", *sampler.takes, *sampler.fixed])
    assert set(sampler.takes) <= SamplingConfig.model_fields.keys()


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_sampler_adds_noise_when_its_entry_says_so(name: str, eta: float) -> None:
    table = step_table(ScheduleConfig(), SamplingConfig(sampler=name, steps=10, eta=eta))
    entry = SAMPLERS[name]
    assert table.noise.any() == (entry.adds_noise or (eta > 0.0 and "eta" in entry.takes))


def test_the_schema_says_which_settings_a_sampler_takes_and_which_samplers_add_noise() -> None:
    fields = SamplingConfig.model_json_schema()["properties"]
    assert fields["sampler"]["x-adds-noise"] == [name for name, one in SAMPLERS.items() if one.adds_noise] == ["ddpm"]
    for setting, takers in (("eta", ["ddim"]), ("variance", ["ddpm"])):
        assert fields[setting]["x-only-with"] == {"sampler": takers}
    assert fields["sampler"]["description"].startswith("ddpm and, with eta, ddim add noise at each step;")


@pytest.mark.parametrize("name", SAMPLERS)
def test_effective_settings_are_only_those_that_a_sampler_takes(name: str) -> None:
    told = SamplingConfig(sampler=name).effective()
    assert {one for one in ("eta", "variance") if told[one] is not None} == set(SAMPLERS[name].takes)


@pytest.mark.parametrize(
    ("annotation", "registry"),
    [(SamplerName, SAMPLERS), (DatasetFormat, FORMATS), (MetricName, METRICS), (ExtractorName, EXTRACTORS)],
    ids=["sampler", "format", "metric", "extractor"],
)
def test_a_name_is_checked_and_described_by_its_registry(annotation: object, registry: dict[str, object]) -> None:
    names = TypeAdapter(annotation)
    assert names.json_schema() == {"type": "string", "enum": list(registry)}
    assert [names.validate_json(f'"{name}"', strict=True) for name in registry] == list(registry)
    *others, last = [f"'{name}'" for name in registry]
    with pytest.raises(ValidationError, match=f"Input should be {', '.join(others)} or {last}"):
        names.validate_json('"none such"', strict=True)


def test_the_defaults_and_orders_are_as_they_were() -> None:
    assert FRONTIER_SAMPLERS == ("ddpm", "ddim", "dpmpp_2m", "unipc", "ipndm")
    assert DECIDING == ("fid", "kid", "bits_per_dimension")
    assert EvaluationConfig(every_images=1).frontier_samplers == FRONTIER_SAMPLERS
    figures = ["lpips-nearest", "recall-x", "bits-per-dimension", "kid-x", "confidence-x", "fid-x"]
    assert sorted(figures, key=decision_order)[:3] == ["fid-x", "kid-x", "bits-per-dimension"]
    assert [name for name in figures if higher_is_better(name)] == ["lpips-nearest", "recall-x", "confidence-x"]
    assert METRICS["precision_recall"].fewest_images == NEIGHBOURS + 1


def test_metrics_of_a_kind_are_found_in_the_order_of_their_entries() -> None:
    assert of_kind("features", ["confidence", "lpips", "fid"]) == ["fid", "confidence"]
    kinds = get_args(inspect.get_annotations(Metric)["kind"])
    assert sorted(name for kind in kinds for name in of_kind(kind, METRICS)) == sorted(METRICS)


def test_a_configuration_is_read_without_numpy_and_torch() -> None:
    """The import linter does not see the code that entries name, so this test imports it."""
    code = "import sys, model.config; sys.exit(sorted({'numpy', 'torch', 'PIL'} & sys.modules.keys()))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code.replace("sys.exit(", "print(")], check=True, capture_output=True
        ).stdout
        == b"[]\n"
    )
