"""ERNIE-Tiny: four stages from general to task.  Su et al. 2021, arXiv:2106.02241

    L = L_hidden + L_attention, in the last stage + KL(p_T ‖ p_S) + CE(gold)      unit weights

    stage              teacher      text       labels
    general            base         contexts   none
    general-enhanced   fine-tuned   contexts   none
    task-adaptive      fine-tuned   all        none
    task-specific      fine-tuned   all        soft and hard

Here: general text is the training contexts alone, with the instructions before them and without
their questions. L_hidden is the relative squared error of each kept block's states, through
projections where widths differ; L_attention compares the attention maps of the last block, head by
head, or their mean over heads where the models have other numbers of them. The stages take a
quarter of the steps each. Assumed: what the latent loss compares, after TinyBERT, equal stages.
Left out: text from elsewhere, attention maps of other blocks, Chinese tasks.
Source: the abstract for the stages; latent loss and weights from memory.
Run: study run params/tiny/methods.yaml --only ernie_tiny  Test: tests/methods/test_ernie_tiny.py
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

from studylib.core.libraries import torch
from studylib.data.packing import Pack, select
from studylib.methods.base import Ask, Sampler, Signals
from studylib.methods.features import attention_mse
from studylib.methods.objective import Composed, Objective
from studylib.methods.views import View

StageName = Literal["general", "general-enhanced", "task-adaptive", "task-specific"]
STAGES = get_args(StageName)
GENERAL, GENERAL_ENHANCED, _, TASK_SPECIFIC = STAGES
HIDDEN, ATTENTION = "hidden_mse", "attention_mse"
LABELS = {"forward_kl": 1.0, "cross_entropy": 1.0}  # soft and hard


class ErnieTiny(Composed):
    """Hidden states and attention maps, of a teacher and on text that both come nearer to the task
    from stage to stage."""

    def __init__(self, *, stage: StageName = TASK_SPECIFIC):
        self.stage = stage
        labels = LABELS if stage == TASK_SPECIFIC else {}
        self.objective = Objective(losses={HIDDEN: 1.0} | labels)
        self.signals = Signals(what="hidden", online=True, base=stage == GENERAL)

    @classmethod
    def recipe(cls, steps: int) -> list[dict[str, Any]]:
        """All four stages, in equal parts as far as the steps can be divided; of fewer steps than
        stages, some."""
        ends = [steps * number // len(STAGES) for number in range(len(STAGES) + 1)]
        return [
            {"steps": end - begin, "method": "ernie_tiny", "options": {"stage": stage}}
            for stage, (begin, end) in zip(STAGES, pairwise(ends), strict=True)
            if end > begin
        ]

    def batch(self, sampler: Sampler, ask: Ask) -> list[Pack]:
        """The rows of every training; in the general stages their contexts alone."""
        rows = sampler.next()
        if self.stage in (GENERAL, GENERAL_ENHANCED):
            return [select(row, ()) for row in rows]
        return rows

    def loss(self, student: View, teachers: Sequence[View]) -> dict[str, torch.Tensor]:
        """Squared errors per token of the rows; of the last stage also KL and cross-entropy per
        token of the answers."""
        maps = (view.at("all").attention_rows() for view in (student, teachers[0]))
        attention = torch.cat([attention_mse(*pair) for pair in zip(*maps, strict=True)])
        return {**self.objective.loss(student, teachers), ATTENTION: attention}

    def count(self, term: str, rows: Sequence[Pack]) -> float:
        """All tokens for the latent terms, those of answers for the others."""
        return self.objective.count(HIDDEN if term == ATTENTION else term, rows)
