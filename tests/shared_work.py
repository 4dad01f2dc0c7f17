"""What several processes do together, for `test_parallel`: cases by name, each in a folder of its
own.

torchrun --nproc-per-node 2 tests/shared_work.py FOLDER CASE...
"""

import json
import sys
from contextlib import nullcontext
from os import environ
from pathlib import Path
from unittest.mock import patch

import torch
from miniatures import built, model, packs, tokenizer
from safetensors.torch import save_file

from studylib.core import filesystem, parallel, sharding
from studylib.evaluation import generate
from studylib.methods import stages as method_stages
from studylib.methods.views import Teacher
from studylib.models import parts
from studylib.training import loop, teachers
from studylib.training.config import Recipe

STAGES = {
    "gold": [{"steps": 4, "losses": {"cross_entropy": 1.0}}],
    "taid": [{"steps": 4, "losses": {"taid": 1.0, "cross_entropy": 0.5}}],
    "online": [{"steps": 4, "losses": {"hidden_mse": 1.0, "forward_kl": 1.0}}],
}
CASES = {  # family, tied embeddings, stages, micro-batch
    "neox gold": ("gpt_neox", False, "gold", 0),
    "qwen tied taid": ("qwen2", True, "taid", 1),
    "llama online": ("llama", False, "online", 0),
}


class Live:
    """A teacher's states computed as they are asked for."""

    tokens = "answers"

    def __init__(self, net):
        self.net = net

    def __call__(self, pack):
        return teachers.answer_states(self.net, pack)


def train(folder: Path, name: str, interrupt: bool = False) -> list[dict]:
    """The curve of one case; its checkpoint after two steps where it is interrupted."""
    family, tied, kind, micro = CASES[name]
    student, net = (model(family, seed=seed, tie_word_embeddings=tied) for seed in (0, 1))
    stages, rows = method_stages.parse(STAGES[kind]), packs()[:8]
    teacher = Teacher(parts.output_of(net, len(tokenizer())), Live(net), net, [0, 1, 2, 3])
    if kind == "online":
        sharding.shard(parts.layers(net))

    def report(step: int, values: dict) -> None:
        if interrupt and step == 3:
            raise KeyboardInterrupt

    recipe = Recipe(batch_size=4, lr=1e-3, seed=0, micro_batch_size=micro)
    filesystem.CHECKPOINT_SECONDS = -1.0 if interrupt else 1e9
    try:
        how = dict(
            recipe=recipe,
            vocabulary=len(tokenizer()),
            work=folder / name,
            teachers=[teacher] if kind != "gold" else [],
            report=report,
        )
        return loop.train(student, rows, stages=stages, **how)
    except KeyboardInterrupt:
        return []


def main(folder: Path, tasks: list[str]) -> None:
    """Do these tasks: `curve CASE`, `stop CASE`, `go on CASE`, `states`, `answers`."""
    for what in tasks:
        verb, _, name = what.partition(": ")
        if verb in ("curve", "stop", "go on"):
            result: object = train(folder, name, verb == "stop")
        elif verb == "states":
            (folder / "states").mkdir(exist_ok=True)
            with patch.object(teachers, "SHARD", 4):
                teachers.store(model("llama"), packs(), folder / "states", iter)
            result = []
        else:
            every = generate.answer(
                model("llama"), tokenizer(), built("one-shot"), batch=2, gold=True, shared=True
            )
            result = [[answer.question_id, answer.text, answer.log_probability] for answer in every]
            if parallel.first():
                save_file(
                    {f"{number}": answer.gold for number, answer in enumerate(every)},
                    folder / "gold.safetensors",
                )
        if parallel.first():
            (folder / f"{what}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with parallel.together(torch.device("cpu")) if "RANK" in environ else nullcontext():
        main(Path(sys.argv[1]), sys.argv[2:])
