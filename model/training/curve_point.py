"""A point of a run's training curve. The loop, files, the database and answers all use this class."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CurvePoint:
    """Loss and gradient norm are means since the previous point.

    learning_rate: of the last batch. images_per_second: of training, without checkpoints, samples and evaluations.
    memory_bytes: the peak so far: memory allocated on the device (CUDA), or this process's resident set.
    """

    images_seen: int
    loss: float
    gradient_norm: float
    learning_rate: float
    images_per_second: float
    memory_bytes: int
