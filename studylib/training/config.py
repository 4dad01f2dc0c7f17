"""How a model is trained: batches, learning rate, seed, precision."""

import math
from dataclasses import dataclass

from studylib.core.errors import StudyError
from studylib.models.precision import PRECISIONS

WARMUP, WEIGHT_DECAY, BETAS = 0.1, 0.01, (0.9, 0.98)


@dataclass(frozen=True)
class Recipe:
    """Steps of `batch_size` rows in micro-batches of `micro_batch_size` (0: all at once), peak
    learning rate, seed
    of the order, and the precision of the model's matrix products (weights, optimiser, norms,
    logits and losses are in fp32 always). Raises StudyError for values that cannot be."""

    batch_size: int
    lr: float
    seed: int
    micro_batch_size: int = 0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        whole = (self.batch_size, self.seed, self.micro_batch_size)
        if any(type(value) is not int or value < 0 for value in whole) or self.batch_size < 1:
            raise StudyError(
                f"{self}: batch_size must be a whole number of at least 1, seed and"
                " micro_batch_size whole numbers that are not negative."
            )
        if not isinstance(self.lr, float) or not 0 < self.lr < 1:
            raise StudyError(f"{self}: lr must be a number between 0 and 1.")
        if self.precision not in PRECISIONS:
            raise StudyError(f"precision {self.precision!r} is unknown: use fp32 or bf16.")

    def rate_at(self, step: int, steps: int) -> float:
        """Learning rate of a step (from 0) among `steps`: linear warm-up, then a cosine down to a
        tenth."""
        ramp = max(1, round(WARMUP * steps))
        if step < ramp:
            return self.lr * (step + 1) / ramp
        done = (step - ramp) / max(1, steps - ramp)
        return self.lr * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))
