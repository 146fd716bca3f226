"""Class confidence, the formula of the Inception Score: a classifier is sure of each image, and images vary in class.

    exp(E_x KL(p(y | x) || p(y))),  p(y) = E_x p(y | x)

(Salimans et al. 2016, section 4). The value lies between 1 and the number of classes. It is computed over all images at
once: a mean over splits depends on their size (Barratt & Sharma 2018, section 3.1).
"""

import math

import torch
from torch import Tensor


class ClassConfidence:
    """Computes the class confidence of any number of images from two running sums."""

    def __init__(self) -> None:
        self.count = 0
        self._mean_sum: Tensor | None = None
        self._negative_entropy_sum = 0.0

    def add(self, logits: Tensor) -> None:
        """Add a batch of logits (N, classes), of any floating type and on any device."""
        logarithms = logits.to("cpu", torch.float64).log_softmax(1)
        probabilities = logarithms.exp()
        batch = probabilities.sum(0)
        self._mean_sum = batch if self._mean_sum is None else self._mean_sum + batch
        self._negative_entropy_sum += float((probabilities * logarithms).sum())
        self.count += len(logits)

    @property
    def value(self) -> float:
        """The figure; raises ValueError when there were no images."""
        if self._mean_sum is None:
            raise ValueError("the class confidence needs at least one image")
        mean = self._mean_sum / self.count
        return math.exp(self._negative_entropy_sum / self.count - float(torch.xlogy(mean, mean).sum()))
