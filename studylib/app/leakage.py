"""Leakage: what a plan's evaluation sets have in common with its training set.

leakage(plan)
"""

import pandas as pd

from studylib.data import demonstrations, squad
from studylib.experiments.plans import Plan
from studylib.runs import inputs, plan_parts


def leakage(plan: Plan) -> pd.DataFrame:
    """What must not be, counted, a line per set: its articles, contexts and questions that are
    among the training ones, too, and its contexts that are shown a demonstration of their own
    article in any way in which they are asked or trained on."""
    training, lines = inputs.loaded(plan.train), []
    ways = {  # of prompting, and seeds, in which questions are read
        (run.needs[need].digest, plan_parts.mode_of(run), run.parameters["seed"])
        for run in plan.runs
        for need in ("train", "dev", "test")
        if need in run.needs
    }
    for source in (plan.train, plan.dev, *plan.tests):
        questions = inputs.questions(source)
        digests = {source.digest, plan_parts.labelled(source).digest}
        shared = squad.shared(training.questions, questions) if source is not plan.train else {}
        first = [group[0] for group in squad.by_context(questions)]
        shown = sum(
            demonstration is not None and demonstration.article == question.article
            for mode, seed in {way[1:] for way in ways if way[0] in digests}
            for demonstration, question in zip(
                demonstrations.choose(first, mode, training.labelled, seed), first, strict=True
            )
        )
        counts = {what: len(shared[what]) if what in shared else pd.NA for what in squad.SHARED}
        lines.append({"set": source.label, **counts, "demonstrations": shown})
    return pd.DataFrame(lines)
