"""How a model is trained: batches, learning rate, seed, precision."""

import math
from dataclasses import dataclass

from studylib.core.errors import StudyError
from studylib.models import parts

WARMUP, WEIGHT_DECAY, BETAS = 0.1, 0.01, (0.9, 0.98)


@dataclass(frozen=True)
class Recipe:
    """Steps of `packs` rows in micro-batches of `micro` (0: all at once), peak learning rate, seed
    of the order, and the precision of the model's matrix products (weights, optimiser, norms,
    logits and losses are in fp32 always). Raises StudyError for values that cannot be."""

    packs: int
    rate: float
    seed: int
    micro: int = 0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        numbers = (self.packs, self.rate, self.seed, self.micro)
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in numbers):
            raise StudyError(f"{self}: packs, rate, seed and micro must be numbers.")
        if self.seed < 0 or any(
            not isinstance(value, int) for value in (self.packs, self.seed, self.micro)
        ):
            raise StudyError(
                f"{self}: packs, seed and micro must be whole numbers, and the seed not negative."
            )
        if self.packs < 1 or not 0 < self.rate < 1 or self.micro < 0:
            raise StudyError(
                f"{self}: packs must be at least 1, micro not negative, the rate between 0 and 1."
            )
        if self.precision not in parts.PRECISIONS:
            raise StudyError(f"precision {self.precision!r} is unknown: use fp32 or bf16.")

    def rate_at(self, step: int, steps: int) -> float:
        """Learning rate of a step (from 0) among `steps`: linear warm-up, then a cosine down to a
        tenth."""
        ramp = max(1, round(WARMUP * steps))
        if step < ramp:
            return self.rate * (step + 1) / ramp
        done = (step - ramp) / max(1, steps - ramp)
        return self.rate * (0.1 + 0.45 * (1 + math.cos(math.pi * done)))
