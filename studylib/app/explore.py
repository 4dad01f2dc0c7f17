"""Two models on one question: both answers, what each model gives for every token of them, and
where they part.

explore.Panel(explore.plan("small")).box  # in a notebook
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import ipywidgets
import pandas as pd
from IPython.display import Markdown, display
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from studylib.analysis import tables
from studylib.app import completion, notebooks
from studylib.core.errors import StudyError
from studylib.core.escaping import printable
from studylib.core.libraries import torch
from studylib.data import packing, prompts, targets, vocabulary
from studylib.data.squad import Question
from studylib.evaluation import generate
from studylib.evaluation.answers import best
from studylib.experiments.plans import Asked, Plan
from studylib.models import parts as model_parts
from studylib.runs import comparison, inputs
from studylib.store.run import Run
from studylib.store.store import Store
from studylib.training import teachers


@dataclass(frozen=True)
class Token:
    """A token of an answer, the end among them: what each model gives for it, 0 to 1, and the
    likeliest of each in its place, by number and as text (parts of a character have no text of
    their own)."""

    text: str
    probabilities: Mapping[str, float]
    numbers: Mapping[str, int]
    likeliest: Mapping[str, str]


@torch.no_grad()
def by_token(
    both: Mapping[str, PreTrainedModel],
    tokenizer: PreTrainedTokenizerBase,
    question: Question,
    *,
    mode: str,
    pool: Sequence[Question] = (),
    seed: int = 0,
) -> dict[str, list[Token]]:
    """The answer of each of the models to a question, as it is scored (`answering.clean`) and would
    be learnt, token by token.

    Raises StudyError for a question that fits in no window.
    """
    how = dict(
        mode=mode,
        pool=pool,
        seed=seed,
        longest=min(model.config.max_position_embeddings for model in both.values()),
    )
    tokens = {}
    for name, model in both.items():
        (answer,) = best(
            generate.answer(model, tokenizer, prompts.build([question], tokenizer, **how))
        ).values()
        learnt = targets.answered(question, answer.text)
        (prompt,) = prompts.build([learnt], tokenizer, **how, training=True)
        tokens[name] = _tokens(both, tokenizer, prompt)
    return tokens


def _tokens(
    both: Mapping[str, PreTrainedModel], tokenizer: PreTrainedTokenizerBase, prompt: prompts.Prompt
) -> list[Token]:
    """The tokens of the answer to learn of a prompt."""
    row, size = packing.pack(prompt), vocabulary.size(tokenizer)
    probabilities = {
        name: model_parts.head(model, teachers.answer_states(model, row), size).softmax(-1)
        for name, model in both.items()
    }  # (N, V)
    best = {name: given.argmax(-1).tolist() for name, given in probabilities.items()}
    return [
        Token(
            vocabulary.text(tokenizer, [token]),
            {name: given[place, token].item() for name, given in probabilities.items()},
            {name: numbers[place] for name, numbers in best.items()},
            {name: vocabulary.text(tokenizer, [numbers[place]]) for name, numbers in best.items()},
        )
        for place, token in enumerate(prompt.branches[0].target)
    ]


def parting(answer: Sequence[Token]) -> int | None:
    """The place of the first token in whose place the models would say unlike ones, or None."""
    return next(
        (place for place, token in enumerate(answer) if len(set(token.numbers.values())) > 1), None
    )


def table(answers: Mapping[str, Sequence[Token]]) -> str:
    """Both answers in Markdown: a line per token, the one where the models part marked."""
    return "\n\n".join(tables.markdown(_cells(name, answer)) for name, answer in answers.items())


def _cells(name: str, answer: Sequence[Token]) -> pd.DataFrame:
    """A line per token of a model's answer: what every model gives it, and would say there."""
    cells = pd.DataFrame({f"{name} says": [_code(token.text) for token in answer]})
    if (apart := parting(answer)) is not None:
        cells.iloc[apart, 0] += " ← here they part"
    for other in answer[0].probabilities:
        cells[f"{other} gives"] = [f"{100 * token.probabilities[other]:.0f} %" for token in answer]
        cells[f"{other} would say"] = [_code(token.likeliest[other]) for token in answer]
    return cells


def _code(text: str) -> str:
    """Text that Markdown shows as it is, within a table, too."""
    return "`" + printable(text.replace("`", "'").replace("|", "¦").replace("\n", "⏎")) + "`"


def plan(profile: str) -> Plan:
    """The first plan of a profile that the store has students of; of the smoke profile, which takes
    a minute to make, if there is none."""
    for job in notebooks.jobs(profile):
        if pairs(job.plan):
            return job.plan
    smoke = notebooks.jobs("smoke")[0].plan
    completion.complete(smoke)
    return smoke


def pairs(plan: Plan, store: Store | None = None) -> dict[str, Asked]:
    """The students and controls that are there with their fine-tuned teachers, by name."""
    store = store or Store()
    return {
        f"{pair.counted.label}, {pair.called['eval_prompt']}, {pair.called['test_set']}": pair
        for pair in plan.asked
        if pair.teacher is not None and isinstance(pair.counted, Run) and store.result(pair.counted)
    }


class Panel:
    """A form: a pair of models, a question of their test set or one's own, and a button; below it
    what they say."""

    def __init__(self, plan: Plan, store: Store | None = None):
        self.plan, self.store = plan, store or Store()
        self.there = pairs(plan, self.store)
        self.loaded: tuple[Asked, dict[str, PreTrainedModel], PreTrainedTokenizerBase] | None = None
        self.pair = ipywidgets.Dropdown(
            options=list(self.there), description="pair", layout={"width": "95%"}
        )
        self.known = ipywidgets.Dropdown(description="question", layout={"width": "95%"})
        self.context, self.question = (
            ipywidgets.Textarea(description=name, layout={"width": "95%", "height": height})
            for name, height in (("text", "10em"), ("own question", "3em"))
        )
        self.button, self.output = ipywidgets.Button(description="Ask both"), ipywidgets.Output()
        self.pair.observe(lambda _: self._offer(), "value")
        self.known.observe(lambda _: self._fill(), "value")
        self.button.on_click(self.output.capture(clear_output=True)(self._clicked))
        self.box = ipywidgets.VBox(
            [self.pair, self.known, self.context, self.question, self.button, self.output]
        )
        self._offer()

    def _offer(self) -> None:
        """The questions of the pair's test set."""
        self.known.options = [
            (f"{q.article}: {q.question}", number) for number, q in enumerate(self._questions())
        ]
        self._fill()

    def _questions(self) -> Sequence[Question]:
        return inputs.questions(self.there[self.pair.value].answers.needs["test"])

    def _chosen(self) -> Question:
        return self._questions()[self.known.value or 0]

    def _fill(self) -> None:
        self.context.value, self.question.value = self._chosen().context, self._chosen().question

    def _models(self) -> tuple[dict[str, PreTrainedModel], PreTrainedTokenizerBase]:
        """Both models, in the vocabulary of the student."""
        pair = self.there[self.pair.value]
        if self.loaded is None or self.loaded[0] is not pair:
            student, tokenizer = inputs.load(self.store, pair.counted)
            both = {"student": student}
            if pair.teacher:
                source = pair.teacher.counted
                both["teacher"] = comparison.teacher(pair.answers, self.store, tokenizer, source)
            self.loaded = pair, both, tokenizer
        return self.loaded[1:]

    def _clicked(self, _: ipywidgets.Button) -> None:
        """Show what `ask` finds, or why it cannot."""
        self.button.disabled = True
        try:
            display(Markdown(self.ask()))
        except StudyError as error:
            print(error)
        self.button.disabled = False

    def ask(self) -> str:
        """Ask both models what stands in the form and return their answers as Markdown. Raises
        StudyError for what cannot be asked."""
        pair = self.there[self.pair.value]
        both, tokenizer = self._models()
        return table(
            by_token(
                both,
                tokenizer,
                replace(
                    self._chosen(),
                    context=self.context.value,
                    question=self.question.value,
                    answers=(("", 0),),
                ),
                mode=pair.called["eval_prompt"],
                pool=inputs.loaded(self.plan.train).labelled,
                seed=pair.called["seed"],
            )
        )
