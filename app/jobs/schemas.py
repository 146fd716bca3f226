"""What answers about jobs of every kind contain."""

from pydantic import BaseModel


class FailureAnswer(BaseModel):
    """Why the last attempt ended badly."""

    kind: str
    detail: str
