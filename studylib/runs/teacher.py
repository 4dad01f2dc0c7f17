"""A teacher: a model from outside, fine-tuned on gold answers, all of its weights or low-rank
adapters."""

from pathlib import Path

from studylib.core.progress import Progress
from studylib.methods import stages as method_stages
from studylib.models import lora
from studylib.runs import inputs, plan_parts, supervision
from studylib.store.run import Input, Run
from studylib.store.store import Store


def plan(
    base: Input, setting: plan_parts.Setting, *, steps: int, lr: float, rank: int = 0, label: str
) -> Run:
    """The base model, fine-tuned on gold answers: all of its weights, or low-rank adapters of this
    `rank`."""
    adapters = {"lora": rank} if rank else {}
    return Run(
        "teacher",
        setting.recipe(method_stages.gold(steps), lr) | adapters,
        {"base": base, "train": setting.questions(), "dev": setting.dev},
        plan_parts.versions_of(setting.train_prompt, "objectives", "training", *adapters),
        f"{label} teacher",
    )


def build(run: Run, folder: Path, store: Store, bar: Progress) -> dict:
    """Train on gold answers; with a rank, low-rank adapters that are merged afterwards."""
    model, tokenizer = inputs.load(store, run.needs["base"])
    if rank := run.parameters.get("lora"):
        lora.attach(model, rank, run.parameters["precision"], run.parameters["seed"])
    return supervision.train(run, model, tokenizer, folder, store, bar)


cost = supervision.cost
