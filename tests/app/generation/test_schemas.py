"""Laws of the schemas of requests and answers: their sampling settings are those of SamplingConfig."""

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from darkroom.app.generate_jobs.schemas import GenerateJobAnswer, GenerateJobRequest
from darkroom.app.generation.schemas import GenerateAnswer, GenerateRequest, InterpolateRequest, InterpolationAnswer
from darkroom.model.config import SamplingConfig
from darkroom.model.sampling.scoring import SCORE_NETWORK_ROWS, SCORE_STEPS

SETTINGS = SamplingConfig.model_json_schema()["properties"]
FIELDS = ("default", "description", "title")


def _values(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a member without null."""
    (kind,) = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    return {name: value for name, value in kind.items() if name not in FIELDS and not name.startswith("x-")}


@pytest.mark.parametrize("request_form", [GenerateRequest, InterpolateRequest, GenerateJobRequest])
def test_every_setting_of_a_request_is_optional_and_has_its_bounds(request_form: type[BaseModel]) -> None:
    schema = request_form.model_json_schema()
    for name, setting in SETTINGS.items():
        member = schema["properties"][name]
        assert _values(member) == _values(setting), name
        assert (member["default"], member["description"]) == (None, setting["description"])
        assert {"type": "null"} in member["anyOf"]
        assert name not in schema.get("required", [])
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("answer", [GenerateAnswer, InterpolationAnswer, GenerateJobAnswer])
def test_an_answer_always_has_every_setting(answer: type[BaseModel]) -> None:
    schema = answer.model_json_schema(mode="serialization")
    for name, setting in SETTINGS.items():
        assert _values(schema["properties"][name]) == _values(setting), name
        assert name in schema["required"]


@pytest.mark.parametrize(
    "named",
    [
        *({name: value} for name in SETTINGS for value in (True, "1", {}, float("nan"), float("inf"))),
        *({name: [0.5, value]} for name in ("guidance_interval",) for value in (True, "1", float("nan"))),
        *({name: [0.5]} for name in SETTINGS),
        {"steps": 2.0},
        {"colour": "red"},
    ],
)
def test_a_request_takes_no_value_of_another_type(named: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refusal:
        GenerateRequest.model_validate({"class": 0} | named)
    assert {error["loc"][0] for error in refusal.value.errors()} == set(named)


def test_the_description_of_best_of_has_the_right_cost() -> None:
    described = GenerateRequest.model_fields["best_of"].description or ""
    assert f" {SCORE_STEPS} noise levels" in described
    assert f" {SCORE_STEPS * SCORE_NETWORK_ROWS} network rows an image" in described
