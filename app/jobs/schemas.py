"""Fields of answers about jobs of every kind."""

from pydantic import BaseModel


class FailureAnswer(BaseModel):
    """Why the last attempt failed."""

    kind: str
    detail: str
