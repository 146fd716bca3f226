"""Fields of answers about jobs of every kind."""

from pydantic import BaseModel, Field

from darkroom.model.training.finding import Finding
from darkroom.model.training.forecast import Forecast


class FailureAnswer(BaseModel):
    """Why the last attempt failed."""

    kind: str
    detail: str


class VerdictAnswer(BaseModel):
    """An early verdict on a training: what a look at its losses and pictures found wrong, and what to expect."""

    images_seen: int = Field(description="the images that the training had seen at the look")
    findings: list[Finding] = Field(description="empty when nothing wrong was found")
    forecast: Forecast | None = Field(
        None, description="Fréchet distance at the end, by what the run has measured; null before it measured one"
    )
