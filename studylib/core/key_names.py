"""The names by which keys know kinds, parameters and needs of runs: names may change, keys stay.

>>> run("student", {"batch_size": 4, "targets": "sequence_kd"}, {"init": "a1b2"})
{'kind': 'student', 'parameters': {'packs': 4, 'learn': 'teacher'}, 'needs': {'start': 'a1b2'}}
"""

from collections.abc import Mapping
from typing import Any

KINDS = {"lr_search": "rate"}
PARAMETERS = {
    "batch_size": "packs",
    "calibration_contexts": "packs",
    "eval_prompt": "asked",
    "lr": "rate",
    "lr_search_steps": "search_steps",
    "micro_batch_size": "micro",
    "num_evals": "evaluations",
    "pruning_contexts": "packs",
    "targets": "learn",
    "train_prompt": "trained",
}
TARGETS = {
    "sequence_kd": "teacher",
    "filtered": "teacher where right",
    "gold, sequence_kd where withheld": "gold, teacher where withheld",
}
NEEDS = {
    "base": "raw",
    "init": "start",
    "lr_search": "rate",
    "reference": "healed_to",
    "student": "own",
    "teacher_answers": "said",
}
PACKS = {"layers": "pruning_contexts", "cut": "calibration_contexts"}  # else the batch size


def folder(kind: str) -> str:
    """Where runs of a kind lie in the store."""
    return KINDS.get(kind, kind)


def today(kind: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a run that was made before names changed, by today's names."""
    names = {before: name for name, before in PARAMETERS.items()}
    names["packs"] = PACKS.get(kind, "batch_size")
    named = {names.get(name, name): value for name, value in parameters.items()}
    if "learn" in parameters:
        words = {before: word for word, before in TARGETS.items()}
        named["targets"] = words.get(named["targets"], named["targets"])
    return named


def run(kind: str, parameters: Mapping[str, Any], needs: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies a run, as keys have it; names that keys have already stay."""
    named = {PARAMETERS.get(name, name): value for name, value in parameters.items()}
    if "learn" in named:
        named["learn"] = TARGETS.get(named["learn"], named["learn"])
    before = {NEEDS.get(name, name): value for name, value in needs.items()}
    return {"kind": KINDS.get(kind, kind), "parameters": named, "needs": before}
