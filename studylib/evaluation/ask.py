"""What a method asks of models: answers, likelihoods, views of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

from studylib.core.libraries import transformers
from studylib.data import packing, vocabulary
from studylib.data.examples import Example
from studylib.data.packing import Pack
from studylib.data.prompts import Branch, Prompt
from studylib.data.squad import Question
from studylib.evaluation import generate, metrics
from studylib.evaluation.answers import best
from studylib.evaluation.decoding import Sampling
from studylib.methods.views import Teacher, View, student_view

Build = Callable[[Sequence[Question]], list[Prompt]]


@dataclass
class Models:
    """Models by their names, `teacher` and `student`, asked by the prompts that `build` makes.

    `teachers` are those as a training has them, `online` whether they run beside the student.
    """

    models: Mapping[str, transformers.PreTrainedModel]
    tokenizer: transformers.PreTrainedTokenizerBase
    seed: int
    build: Build
    dev: Sequence[Pack] = ()
    questions: Mapping[str, Question] = field(default_factory=dict)
    teachers: Sequence[Teacher] = ()
    online: bool = False

    def views(self, rows: Sequence[Pack]) -> tuple[View, list[View]]:
        """Student and teachers on some rows, without gradients."""
        size = vocabulary.size(self.tokenizer)
        student = student_view(self.models["student"], rows, size, False, trained=False)
        return student, [
            teacher.view(rows, student.batch, self.online) for teacher in self.teachers
        ]

    def answers(
        self, examples: Sequence[Example], *, model: str, number: int = 1, temperature: float = 0.0
    ) -> list[list[str]]:
        """So many answers to each example's question; greedy at a temperature of 0."""
        asked = (self.models[model], self.tokenizer, self.build(examples))
        samplings = (
            Sampling(temperature, self.seed, n) if temperature else None for n in range(number)
        )
        drawn = [best(generate.answer(*asked, sampling=way)) for way in samplings]
        return [[answers[example.id].text for answers in drawn] for example in examples]

    def continued(
        self,
        rows: Sequence[Pack],
        begun: Sequence[list[int]],
        *,
        longest: int,
        temperature: float,
        number: int,
    ) -> list[list[int]]:
        """The student's answers to all questions of some rows, sampled from their tokens so far to
        the token that ends the answer to learn, or to `longest` tokens; each by random numbers of
        its question's id and `number`."""
        answers = [list(tokens) for tokens in begun]
        numbers, going, prompts = count(), list[tuple[list[int], Branch]](), []
        for row in rows:
            asked = [(answers[next(numbers)], branch) for branch in row.asked]
            asked = [(a, b) for a, b in asked if len(a) < longest and a[-1:] != b.target[-1:]]
            branches = [replace(b, given=b.given + a, target=[]) for a, b in asked]
            prompts += [Prompt(packing.prefix(row), branches)] if asked else []
            going += asked
        sampled = generate.answer(
            self.models["student"],
            self.tokenizer,
            prompts,
            longest=longest,
            sampling=Sampling(temperature, self.seed, number),
        )
        for (answer, branch), more in zip(going, sampled, strict=True):
            tokens, end = list(more.ids), branch.target[-1:]
            if more.tokens > len(tokens):  # a token ended it
                tokens += end
            elif len(tokens) < longest:  # a line break did, with its last token
                tokens[-1:] = end
            answer += tokens
        return [answer[:longest] for answer in answers]

    def rows(self, examples: Sequence[Example]) -> list[Pack]:
        """The rows of some examples, prompted as the student is."""
        return [packing.pack(prompt) for prompt in self.build(examples)]

    def right(self, example: Example, text: str) -> bool:
        """Whether an answer is exactly one of the example's."""
        return metrics.exact_match(text, **metrics.judged(example)) == 1

    def log_likelihood(self, examples: Sequence[Example], *, model: str) -> list[float]:
        """log p of each example's target with its end, in nats."""
        log_likelihoods: dict[str, float] = {}
        size = vocabulary.size(self.tokenizer)
        for row in self.rows(examples):
            view = student_view(self.models[model].eval(), [row], size, False, trained=False)
            sums = view.per_sequence(view.log_probs).tolist()
            log_likelihoods |= dict(zip(row.question_ids, sums, strict=True))
        return [log_likelihoods[example.id] for example in examples]
