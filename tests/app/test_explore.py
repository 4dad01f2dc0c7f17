"""Both models on one question: the probabilities are those of the models, and the form asks what
stands in it."""

from dataclasses import replace

import pytest
import torch
from miniatures import planned, questions, tokenizer

from studylib.app import explore, notebooks, study
from studylib.data import prompts
from studylib.evaluation import generate
from studylib.models import loading
from studylib.runs import inputs
from studylib.store.store import Store


@torch.no_grad()
def test_an_answer_is_told_with_the_probabilities_of_both():
    """As a plain pass over the same tokens has them, for whoever said it and for the other."""
    both = {
        family: loading.load(f"tiny:{family}")[0] for family in ("gpt_neox", "qwen2")
    }  # of one vocabulary
    asked = questions()[0]
    tokens = explore.by_token(both, tokenizer(), asked, mode="zero-shot")
    for name, net in both.items():
        (answer,) = generate.answer(
            net, tokenizer(), prompts.build([asked], tokenizer(), mode="zero-shot")
        )
        assert "".join(token.text for token in tokens[name][:-1]).strip() == answer.text
        learnt = [replace(asked, answers=((answer.text, 0),))]
        (prompt,) = prompts.build(learnt, tokenizer(), mode="zero-shot", training=True)
        given, target = prompt.prefix + prompt.branches[0].given, prompt.branches[0].target
        for other, model in both.items():
            expected = (
                model(torch.tensor([given + target]))
                .logits[0, len(given) - 1 : -1, : len(tokenizer())]
                .softmax(-1)
            )
            probabilities = [token.probabilities[other] for token in tokens[name]]
            assert probabilities == pytest.approx(
                expected[range(len(target)), target].tolist(), abs=1e-5
            )
            assert [token.likeliest[other] for token in tokens[name]] == [
                tokenizer().decode(best) for best in expected.argmax(-1).tolist()
            ]


def test_they_part_where_their_likeliest_tokens_first_differ():
    def token(text: str, other: str, *numbers: int) -> explore.Token:
        return explore.Token(
            text,
            {"a": 0.5, "b": 0.25},
            dict(zip("ab", numbers or (ord(text[0]), ord(other[0])), strict=True)),
            {"a": text, "b": other},
        )

    assert explore.parting([token("x", "x"), token("y", "|"), token("z", "n")]) == 1
    assert explore.parting([token("x", "x"), token("\ufffd", "\ufffd", 7, 8)]) == 1, (
        "unlike parts of characters have the same text"
    )
    assert explore.parting([token("x", "x")]) is None
    table = explore.table({"a": [token("x", "x"), token("y", "|")], "b": [token("x`", "x`")]})
    assert [" ".join(line.split()) for line in table.splitlines()[2:4]] == [
        "| `x` | 50 % | `x` | 25 % | `x` |",
        "| `y` ← here they part | 50 % | `y` | 25 % | `¦` |",
    ]
    assert table.count("part") == 1


@pytest.mark.slow
def test_the_form_asks_what_stands_in_it(raw, tmp_path, capsys):
    plan, store = planned(raw, sizes=[3, 2], from_base=[]), Store(tmp_path)
    assert explore.pairs(plan, store) == {}
    study.complete(plan, store)
    panel = explore.Panel(plan, store)
    assert len(panel.pair.options) == 4 * 2
    first = panel.ask()
    assert (
        first.count("says") == 2
        and panel.question.value == inputs.questions(plan.tests[0])[0].question
    )
    panel.known.value = 1
    assert panel.question.value == inputs.questions(plan.tests[0])[1].question
    panel.pair.value = panel.pair.options[2]
    panel.context.value, panel.question.value = "Kamo lives in Tiru.", "Where does Kamo live?"
    panel.question.value = "Where does Kamo live? " * 100
    panel.button.click()
    assert (
        "not even a piece of its context fits" in capsys.readouterr().out
        and not panel.button.disabled
    )
    panel.question.value = "Where does Kamo live?"
    assert panel.ask() != first
    assert panel.loaded[0].counted.parameters["depth"] == 2


def test_the_smoke_profile_is_every_experiment_as_its_notebook_has_it():
    jobs = notebooks.jobs("smoke")
    assert [job.notebook.stem for job in jobs] == [
        "capacity_gap",
        "teacher_choice",
        "prompting_mode",
        "methods",
    ]
    assert all(job.profile == "smoke" and job.values == {} and job.plan.asked for job in jobs)
