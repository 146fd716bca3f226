"""A point of a run's training curve: the one class of it, from the loop to files, the database and answers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CurvePoint:
    """Means of training since the point before.

    learning_rate: of the last batch. images_per_second: of training alone. memory_bytes: the most that the device has
    held so far (CUDA), or this process's largest resident set.
    """

    images_seen: int
    loss: float
    gradient_norm: float
    learning_rate: float
    images_per_second: float
    memory_bytes: int
