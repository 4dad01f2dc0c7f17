"""TRG: token-level relationship graphs.  Zhang et al. 2023, arXiv:2306.12442

    L = KD + 0.5 CE + weight (local + global + contextual)
    local       KL(softmax(cos(t_i, t_j)/τ) ‖ softmax(cos(s_i, s_j)/τ)), j the k nearest tokens of i
    global      −log of exp(cos(s_i, t_i)/τ) / Σ_j exp(cos(s_i, t_j)/τ)
    contextual  mean over j of (cos(s_i, s_j) − cos(t_i, t_j))²               k 16, τ 0.1, weight 1

Here: tokens are those of a row, context and questions, so that no loss depends on which rows share
a batch; each term is a mean over tokens and over the kept blocks. For the global term the student's
states come through projections where widths differ. KD is forward KL; its weight and that of CE are
plain distillation's. Assumed: k, τ, the weight, cosine as similarity.
Left out: tokens of other rows, image patches.
Source: abstract and at second hand; the terms from memory.
Run: study run params/tiny/methods.yaml --only token_relation_graph
Test: tests/methods/test_token_relation_graph.py
"""

from __future__ import annotations

from studylib.methods.base import Signals
from studylib.methods.objective import Composed, Objective
from studylib.methods.options import Count, Positive


class TokenRelationGraph(Composed):
    """How a row's tokens lie to each other: near ones, all of them, and beside the teacher's."""

    signals = Signals(what="hidden", online=True)

    def __init__(
        self, *, neighbours: Count = 16, temperature: Positive = 0.1, weight: Positive = 1.0
    ):
        shared = {"weight": weight, "temperature": temperature}
        graph = {
            "neighbour_kl": shared | {"neighbours": neighbours},
            "mi_alpha": shared | {"alpha": 1.0},  # InfoNCE
            "token_relation": {"weight": weight},
        }
        self.objective = Objective(losses={"forward_kl": 1.0, "cross_entropy": 0.5} | graph)
