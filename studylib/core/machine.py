"""Where and how runs are computed."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where runs are computed; no part of their keys.

    By which engine and with which of its options, on which device, in how many threads, and by how
    many processes together, one per GPU, where a model is trained or asked.
    """

    engine: str
    engine_options: Mapping
    device: str
    threads: int
    processes: int
