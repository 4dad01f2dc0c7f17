"""Distilling step-by-step: both terms by hand, and which sentence is the rationale."""

import pytest
import torch
from miniatures import built, model
from short_training import VOCABULARY, rows_of

from studylib.data import examples
from studylib.methods.step_by_step import EXPLAIN, RATIONALE, StepByStep, sentences
from studylib.methods.views import student_view
from studylib.training import loop


def test_the_loss_is_alpha_of_answers_and_the_rest_of_rationales():
    method, net = StepByStep(alpha=0.3), model("llama")
    rows, values = rows_of(StepByStep)[:5], {"gold": [], RATIONALE: []}
    for row in rows:
        with torch.no_grad():
            logs = student_view(net, [row], VOCABULARY, False).log_probs
        for role, losses in zip(row.roles, logs.split(list(row.target_lengths)), strict=True):
            values[role] += (-losses).tolist()
    gold, rationale = (sum(losses) / len(losses) for losses in values.values())
    logged = loop.backward(net, rows, method, (), VOCABULARY, 2)
    assert logged["gold"] == pytest.approx(gold, rel=1e-4)
    assert logged[RATIONALE] == pytest.approx(rationale, rel=1e-4)
    assert logged["loss"] == pytest.approx(0.3 * gold + 0.7 * rationale, rel=1e-4)


class Reader:
    """A teacher that finds answers likely where the sentence holds them."""

    def log_likelihood(self, candidates, *, model):
        assert model == "teacher"
        return [
            0.0 if candidate.answers[0][0] in candidate.context else -9.0
            for candidate in candidates
        ]


def test_the_rationale_is_the_sentence_that_makes_the_answer_likely():
    originals = [examples.of(b.question) for prompt in built() for b in prompt.branches]
    explained = StepByStep().data(originals, Reader())
    assert [example.id for example in explained[::2]] == [example.id for example in originals]
    for example, rationale in zip(explained[::2], explained[1::2], strict=True):
        text = rationale.answers[0][0]
        assert rationale.role == RATIONALE and rationale.group == example.id
        assert rationale.question == EXPLAIN + example.question
        assert text in sentences(example.context) and example.answers[0][0] in text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("It cost 3.5 million. So what", ["It cost 3.5 million.", "So what"]),
        ("一。二！三", ["一。", "二！", "三"]),
        ("پہلا۔ دوسرا؟", ["پہلا۔", "دوسرا؟"]),
        ("no mark at all", ["no mark at all"]),
    ],
)
def test_sentences_end_with_their_marks(text, parts):
    assert sentences(text) == parts
