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
        numbers = (self.batch_size, self.lr, self.seed, self.micro_batch_size)
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in numbers):
            raise StudyError(f"{self}: batch_size, lr, seed and micro_batch_size must be numbers.")
        if self.seed < 0 or any(
            not isinstance(value, int)
            for value in (self.batch_size, self.seed, self.micro_batch_size)
        ):
            raise StudyError(
                f"{self}: batch_size, seed and micro_batch_size must be whole numbers, and the seed"
                " not negative."
            )
        if self.batch_size < 1 or not 0 < self.lr < 1 or self.micro_batch_size < 0:
            raise StudyError(
                f"{self}: batch_size must be at least 1, micro_batch_size not negative, and lr"
                " between 0 and 1."
            )
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
