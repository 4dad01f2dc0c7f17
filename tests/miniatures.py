"""Small models, prompts, packs and plans that several tests share."""

from functools import cache
from pathlib import Path

import make_bases
import pandas as pd
import torch
from transformers import (
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from studylib.analysis import cost, figures, retention, tables, teacher_sizes
from studylib.app import study
from studylib.core.checks import checked
from studylib.core.machine import Machine
from studylib.data import packing, prompts, squad
from studylib.experiments import config, experiments, plans
from studylib.store.run import Run
from studylib.store.store import Store

FAMILIES = ("gpt_neox", "llama", "qwen2")
FACTS = {"paragraphs": 6, "facts": 2}
SHAPE = dict(
    hidden_size=32,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=48,
    max_position_embeddings=512,
)


@cache
def tokenizer():
    return make_bases.tokenizer()


def model(family: str, *, padding: int = 0, seed: int = 0, **changes) -> PreTrainedModel:
    """A random model of four narrow layers whose vocabulary has `padding` rows more than the
    tokenizer."""
    torch.manual_seed(seed)
    shape = SHAPE | {"vocab_size": len(tokenizer()) + padding, "initializer_range": 0.2} | changes
    if family == "gpt_neox":
        return GPTNeoXForCausalLM(GPTNeoXConfig(**shape)).eval()
    if family == "llama":
        return LlamaForCausalLM(LlamaConfig(num_key_value_heads=2, **shape)).eval()
    return Qwen2ForCausalLM(Qwen2Config(num_key_value_heads=2, **shape)).eval()


@cache
def questions(paragraphs: int = 5) -> tuple[squad.Question, ...]:
    """Paragraphs of one to three facts: contexts, questions and answers of unlike lengths."""
    pool: list[squad.Question] = []
    for facts in (1, 2, 3):
        pool += squad.load(
            {"source": "facts:train", "paragraphs": paragraphs, "facts": facts, "seed": facts}
        ).questions
    return tuple(pool)


def built(mode: str = "zero-shot", paragraphs: int = 5) -> list[prompts.Prompt]:
    asked = questions(paragraphs)
    return prompts.build(asked, tokenizer(), mode=mode, pool=asked)


def packs(mode: str = "zero-shot", paragraphs: int = 5) -> list[packing.Pack]:
    return [packing.pack(prompt) for prompt in built(mode, paragraphs)]


def unpack(prompt: prompts.Prompt) -> list[packing.Pack]:
    """The same prompt with one question per row: what packing is compared with."""
    return [packing.pack(prompts.Prompt(prompt.prefix, [branch])) for branch in prompt.branches]


def stages(**losses) -> list[dict]:
    """Two steps on these losses."""
    return [{"steps": 2, "losses": losses}]


SETTINGS = {
    "dev": {"source": "facts:dev", **FACTS},
    "train": {"source": "facts:train", **FACTS},
    "tests": {"near": {"source": "facts:test", **FACTS}},
    "siblings": {},
    "train_prompt": "zero-shot",
    "eval_prompts": ["zero-shot", "one-shot"],
    "seeds": [0],
    "stages": stages(forward_kl=1.0),
    "pruning_contexts": 2,
    "calibration_contexts": 2,
    "teacher_steps": 2,
    "lr_search_steps": 1,
    "batch_size": 2,
    "num_evals": 1,
    "threads": 1,
}
GROUPS = {"data": config.Data, "training": config.Training, "machine": Machine}


def grouped(values: dict) -> dict:
    """Parameters with those that all experiments share in their groups, as a YAML has them."""
    given = dict(values)
    for group, kind in GROUPS.items():
        inside = {name: given.pop(name) for name in kind.model_fields if name in given}
        given[group] = inside | given.get(group, {})
    return given


def _plan(name: str, values: dict) -> plans.Plan:
    """The plan of an experiment; unlike a notebook's names, all of these must be parameters."""
    return checked(experiments.EXPERIMENTS[name], grouped(values)).plan()


def planned(raw: str, **changes) -> plans.Plan:
    """A capacity gap of a miniature model, whose reference is `raw`."""
    defaults = {"families": {"mini": raw}, "sizes": [3, 2], "from_base": [3]}
    return _plan("capacity_gap", SETTINGS | defaults | changes)


def chosen(raw: str, **changes) -> plans.Plan:
    """A choice of teachers for a miniature model."""
    defaults = {
        "families": {"mini": raw},
        "size": 2,
        "smaller": 3,
        "demonstration": "one-shot",
        "eval_prompts": ["zero-shot"],
    }
    return _plan("teacher_choice", SETTINGS | defaults | changes)


def prompted(raw: str, **changes) -> plans.Plan:
    """Ways of prompting for a miniature model."""
    defaults = {"families": {"mini": raw}, "size": 2, "train_prompts": ["zero-shot", "one-shot"]}
    shared = {name: value for name, value in SETTINGS.items() if name != "train_prompt"}
    return _plan("prompting_mode", shared | defaults | changes)


COMPARED = {
    "size": 2,
    "control_steps": [4],
    "eval_prompts": ["zero-shot"],
    "stages": stages(forward_kl=1.0, cross_entropy=0.5),
}


def compared(raw: str, **changes) -> plans.Plan:
    """Methods for a miniature model."""
    return _plan("methods", SETTINGS | COMPARED | {"families": {"mini": raw}} | changes)


def students(plan: plans.Plan) -> dict[tuple[str, str, str], Run]:
    """The runs of all trained models by role, init and name."""
    return {
        (called["role"], called["init"], called["student"]): run for run, called in plan.trained
    }


def exported(plan: plans.Plan, store: Store, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows and curves of a plan for students of several sizes, exported with all that its
    notebook shows."""
    rows, learned = study.rows(plan, store, folder), study.curves(plan, store, folder)
    kept, seeds = retention.compare(rows), retention.by_seed(rows)
    timing = study.timing(plan, rows, store, folder)
    exported = {"learning": learned, "runs": study.origins(plan, store, folder)}
    exported |= {"timing": timing, "seeds": seeds}
    costs, sweep = cost.pareto(timing), teacher_sizes.sweep(rows)
    drawn = figures.capacity_gap(kept, seeds, costs, sweep, learned, "zero-shot")
    study.export(folder, rows, exported, {"table": tables.table(kept)}, drawn)
    return rows, learned
