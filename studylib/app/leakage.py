"""Leakage: what a plan's evaluation sets have in common with its training set.

leakage(plan)
"""

from collections import defaultdict

import pandas as pd

from studylib.data import prompts, squad
from studylib.experiments.plans import Plan
from studylib.runs import inputs


def leakage(plan: Plan) -> pd.DataFrame:
    """What must not be, counted, a line per set: its articles, contexts and questions that are
    among the training ones, too, and its contexts that are shown a demonstration of their own
    article in any way in which they are asked or trained on."""
    training, ways, lines = inputs.questions(plan.train), _ways(plan), []
    for source in (plan.train, plan.dev, *plan.tests):
        questions = inputs.questions(source)
        counts: dict[str, object] = dict.fromkeys(squad.SHARED, pd.NA)
        if source is not plan.train:
            shared = squad.shared(training, questions)
            counts = {what: len(common) for what, common in shared.items()}
        first = [group[0] for group in squad.by_context(questions)]
        shown = sum(
            demonstration is not None and demonstration.article == question.article
            for mode, seed in sorted(ways[source.digest])
            for demonstration, question in zip(
                prompts.demonstrations(first, mode, training, seed), first, strict=True
            )
        )
        lines.append({"set": source.label, **counts, "demonstrations": shown})
    return pd.DataFrame(lines)


def _ways(plan: Plan) -> dict[str, set[tuple[str, int]]]:
    """By a data set's digest, the ways of prompting and seeds in which its questions are read."""
    ways: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for run in plan.runs:
        for source in (run.needs[need] for need in ("train", "dev", "test") if need in run.needs):
            mode = run.parameters.get("eval_prompt", run.parameters.get("train_prompt"))
            ways[source.digest].add((mode, run.parameters["seed"]))
    return ways
