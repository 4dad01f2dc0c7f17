"""All that a notebook says, by name: tables in Markdown, the answer and the conclusion
(`conclusions`), and what they rest on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from studylib.analysis import conclusions, rates, tables
from studylib.core.labels import FINE_TUNED


@dataclass(frozen=True)
class Origin:
    """What numbers come from: the learning rates that were chosen, and in words what computing
    took, how many answers are missing, and which numbers today's code would compute anew."""

    rates: pd.DataFrame
    computed: str = ""
    missing: str = ""
    outdated: str = ""

    def texts(
        self, kept: pd.DataFrame, answer: str, conclusion: str, **others: str
    ) -> dict[str, str]:
        """What a notebook says of a comparison, by name: what computing took follows the
        conclusion, what is missing the answer, too. What is outdated stands below every text."""
        texts = others | {
            "table": tables.table(kept),
            "rates": rates.markdown(self.rates),
            "answer": self.with_missing(answer),
            "conclusion": self.below(conclusion),
        }
        return self.noted(texts)

    def noted(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Texts by name, what is outdated below each."""
        note = f"\n{self.outdated}\n" if self.outdated else ""
        return {name: f"{text}{note}" for name, text in texts.items()}

    def with_missing(self, answer: str) -> str:
        """An answer, and what is missing of it."""
        return f"{answer.strip()} {self.missing}".strip() + "\n"

    def below(self, conclusion: str) -> str:
        """A conclusion, and below it what its numbers come from."""
        return _paragraphs(conclusion, f"{self.computed} {self.missing}")


def capacity_gap(
    kept: pd.DataFrame,
    gained: pd.DataFrame,
    costs: pd.DataFrame,
    law: pd.DataFrame,
    shipped: pd.DataFrame,
    eval_prompt: str,
    origin: Origin,
    claimed: pd.DataFrame | None = None,
    pooled: pd.DataFrame = conclusions.NO_PAIRS,
) -> dict[str, str]:
    """What that notebook says in words, by name: `kept` is its comparison, `gained` its contrasts,
    `pooled` those of all sizes together, `costs` what answers cost, `law` the best teachers of
    siblings, `shipped` the scores of models before any training, `origin` what its numbers come
    from, `claimed` the comparison on untouched questions (`retention.on_untouched`)."""
    besides = rates.differences(origin.rates)
    results = conclusions.capacity_conclusion(kept, gained, costs, eval_prompt, claimed, pooled)
    bases = {"bases": tables.bases(shipped)} if len(shipped) else {}
    return origin.texts(
        kept,
        conclusions.capacity_answer(kept, gained, eval_prompt, claimed, pooled),
        _paragraphs(conclusions.summits(law, eval_prompt) + results, besides),
        headline=tables.headline(kept),
        contrasts=_paragraphs(tables.contrasts(gained), besides),
        **bases,
    )


def teacher_choice(
    kept: pd.DataFrame, gained: pd.DataFrame, scores: pd.DataFrame, eval_prompt: str, origin: Origin
) -> dict[str, str]:
    """What that notebook says in words, by name."""
    besides = rates.differences(origin.rates)
    results = conclusions.choice_conclusion(gained, scores, FINE_TUNED, eval_prompt)
    return origin.texts(
        kept,
        conclusions.choice_answer(gained, FINE_TUNED, eval_prompt),
        _paragraphs(results, besides),
        contrasts=_paragraphs(tables.contrasts(gained), besides),
    )


def prompting_mode(
    kept: pd.DataFrame,
    worth: pd.DataFrame,
    traits: pd.DataFrame,
    train_prompts: Sequence[str],
    origin: Origin,
) -> dict[str, str]:
    """What that notebook says in words, by name: `worth` is what ways of prompting are worth,
    `traits` the same by traits of questions."""
    return origin.texts(
        kept,
        conclusions.prompting_answer(worth, train_prompts),
        conclusions.prompting_conclusion(worth, traits, train_prompts),
        comparisons=tables.prompting(worth),
    )


def _paragraphs(*texts: str) -> str:
    """Those texts that there are, a blank line between them."""
    return "\n\n".join(text.strip() for text in texts if text.strip()) + "\n"
