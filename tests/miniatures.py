"""Small models, prompts, packs and plans that several tests share."""

from functools import cache

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

from studylib.data import packing, prompts, squad
from studylib.experiments import experiments, plans
from studylib.models import bases
from studylib.store.run import Run

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
    return bases.tokenizer()


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
    found: list[squad.Question] = []
    for facts in (1, 2, 3):
        found += squad.load(
            {"source": "facts:train", "paragraphs": paragraphs, "facts": facts, "seed": facts}
        ).questions
    return tuple(found)


def built(mode: str = "zero-shot", paragraphs: int = 5) -> list[prompts.Prompt]:
    asked = questions(paragraphs)
    return prompts.build(asked, tokenizer(), mode=mode, pool=asked)


def packs(mode: str = "zero-shot", paragraphs: int = 5) -> list[packing.Pack]:
    return [packing.pack(prompt) for prompt in built(mode, paragraphs)]


def stages(**losses) -> list[dict]:
    """Two steps on these losses."""
    return [{"steps": 2, "losses": losses}]


SETTINGS = {
    "dev": {"source": "facts:dev", **FACTS},
    "train": {"source": "facts:train", **FACTS},
    "tests": {"near": {"source": "facts:test", **FACTS}},
    "siblings": {},
    "variant": "",
    "xquad": "",
    "xquad_paragraphs": 1,
    "trained": "zero-shot",
    "asked": ["zero-shot", "one-shot"],
    "seeds": [0],
    "stages": stages(forward_kl=1.0),
    "learn": "gold",
    "layer_packs": 2,
    "heal_packs": 2,
    "teacher_steps": 2,
    "teacher_rate": 1e-3,
    "teacher_lora": 0,
    "rates": [1e-3],
    "search_steps": 1,
    "packs": 2,
    "micro": 0,
    "precision": {"training": "fp32", "answers": "fp32"},
    "evaluations": 1,
    "engine": "local",
    "engine_options": {},
    "device": "auto",
    "threads": 1,
    "processes": 1,
}


NO_MORE = {"rivals": [], "rival_stages": stages(taid=1.0), "ladder": [], "base_asked": []}


def planned(raw: str, **changes) -> plans.Plan:
    """A capacity gap of a miniature model, whose reference is `raw`."""
    return experiments.capacity_gap(
        **SETTINGS
        | {"families": {"mini": raw}, "sizes": [3, 2], "twins": [3, 2], "raw_starts": [3]}
        | NO_MORE
        | changes
    )


def chosen(raw: str, **changes) -> plans.Plan:
    """A choice of teachers for a miniature model."""
    own = {
        "families": {"mini": raw},
        "size": 2,
        "smaller": 3,
        "demonstration": "one-shot",
        "asked": ["zero-shot"],
    }
    return experiments.teacher_choice(**SETTINGS | own | changes)


def prompted(raw: str, **changes) -> plans.Plan:
    """Ways of prompting for a miniature model."""
    own = {"families": {"mini": raw}, "size": 2, "trained": ["zero-shot", "one-shot"]}
    return experiments.prompting_mode(
        **{name: value for name, value in SETTINGS.items() if name != "trained"} | own | changes
    )


def compared(raw: str, **changes) -> plans.Plan:
    """Methods for a miniature model."""
    own = {
        "families": {"mini": raw},
        "size": 2,
        "methods": [],
        "control_steps": [4],
        "asked": ["zero-shot"],
        "stages": stages(forward_kl=1.0, cross_entropy=0.5),
    }
    return experiments.methods(**SETTINGS | own | changes)


def students(plan: plans.Plan) -> dict[tuple[str, str, str], Run]:
    """The runs of all trained models by role, start and name."""
    return {
        (called["role"], called["start"], called["student"]): run for run, called in plan.trained
    }
