"""The answer to learn: which gold answer it is, and where it stands."""

import unicodedata

import pytest
from transformers import PreTrainedTokenizerFast

from studylib.data import prompts, targets
from studylib.data.squad import Question
from studylib.evaluation import metrics
from studylib.evaluation.answers import clean


@pytest.mark.parametrize(
    ("answers", "target"),
    [
        (("Tiru",), "Tiru"),
        (("Kamo", "Tiru", "Tiru"), "Tiru"),
        (("Tiru", "Kamo"), "Tiru"),
        (("Kamo", "Tiru", "Tiru", "Kamo"), "Kamo"),
        (("in", "lives", "Tiru", "Tiru", "lives"), "lives"),
        ((" Tiru", "Kamo", "Tiru "), "Tiru"),
    ],
)
def test_target_is_the_most_frequent_answer_and_the_first_among_equals(answers: tuple, target: str):
    assert (
        targets.target_of(Question("q", "A", "c", "?", tuple((answer, 0) for answer in answers)))
        == target
    )


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_an_answer_is_found_where_it_stands_in_whichever_spelling(form: str):
    context = unicodedata.normalize(form, "René and Zoé\nlive in Orléans, Zoé does.")
    for answer, rest in (("Orléans", "Orle"), ("Zoé live", "Zo")):
        place = targets.place_of(answer, context)
        assert unicodedata.normalize("NFD", context[place:]).startswith(rest) and place > 3
    assert targets.place_of("nowhere", context) == targets.place_of("", context) == 0


@pytest.mark.parametrize(
    ("answers", "target"),
    [
        (("by\nKamo Belu",), "by Kamo Belu"),
        (("a \r\n b",), "a b"),
        (("a\n\n\tb\n",), "a b"),
        (("x", "a\nb", "a b"), "a b"),
        (("a  b",), "a  b"),
    ],
)
def test_an_answer_with_line_breaks_is_learnt_in_one_line(
    answers: tuple, target: str, tokenizer: PreTrainedTokenizerFast
):
    """An answer ends with its line, so nothing else could be heard."""
    asked = Question(
        "q", "A", "By\n" + " ".join(answers), "?", tuple((answer, 3) for answer in answers)
    )
    assert targets.target_of(asked) == target and targets.traits(asked)["answer_words"] == len(
        target.split()
    )
    (prompt,) = prompts.build([asked], tokenizer, mode="zero-shot")
    assert tokenizer.decode(prompt.branches[0].target[:-1]) == f" {target}"
    if "\n" in answers[0]:
        assert metrics.exact_match(clean(f" {target}"), answers) == 1.0
