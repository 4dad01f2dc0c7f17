"""Context distillation: the teacher reads a demonstration, the student does not."""

import pytest
import torch
from miniatures import built, compared, model, packs, prompted, unpack
from short_training import VOCABULARY, teacher_of

from studylib.core.errors import StudyError
from studylib.data import demonstrations
from studylib.data.packing import collate
from studylib.methods import stages
from studylib.methods.context_distillation import ContextDistillation
from studylib.models import parts
from studylib.training import loop

STAGE = {"steps": 2, "method": "context_distillation"}
PLAIN = {"steps": 2, "losses": {"forward_kl": 1.0}}


def distributions(net, mode):
    """log p at the answers' tokens by question, each question in a row of its own."""
    rows = [row for prompt in built(mode)[:4] for row in unpack(prompt)]
    with torch.no_grad():
        states = [parts.hidden_states(net, collate([row]))[0][row.answers.at] for row in rows]
        logs = [parts.head(net, state, VOCABULARY).log_softmax(-1) for state in states]
    return {
        row.question_ids[0]: (log, row.answers.targets) for row, log in zip(rows, logs, strict=True)
    }


def test_the_loss_compares_a_teacher_that_reads_a_demonstration_with_a_student_that_reads_none():
    method, net, teacher = ContextDistillation(gold=0.3), model("llama"), model("llama", seed=1)
    shown, bare = distributions(teacher, "one-shot"), distributions(net, "zero-shot")
    divergences, gold = [], []
    for question, (log_q, targets) in bare.items():
        log_p, _ = shown[question]
        divergences += (log_p.exp() * (log_p - log_q)).sum(-1).tolist()
        gold += (-log_q[torch.arange(len(targets)), torch.tensor(targets)]).tolist()
    logged = loop.backward(
        net, packs()[:4], method, [teacher_of(method, teacher)], VOCABULARY, micro_batch_size=3
    )
    kl, cross_entropy = (sum(values) / len(values) for values in (divergences, gold))
    assert logged["forward_kl"] == pytest.approx(kl, rel=1e-4)
    assert logged["cross_entropy"] == pytest.approx(cross_entropy, rel=1e-4)
    assert logged["loss"] == pytest.approx(kl + 0.3 * cross_entropy, rel=1e-4)
    asked_alike = distributions(teacher, "zero-shot")
    assert any((asked_alike[q][0] - shown[q][0]).abs().max() > 0.1 for q in shown)


@pytest.mark.parametrize(
    ("mode", "demonstration", "expected"),
    [
        ("zero-shot", "one-shot", "one-shot"),
        ("chat zero-shot", "one-shot random", "chat one-shot random"),
        ("one-shot retrieved", "", "one-shot retrieved"),
    ],
)
def test_the_teacher_reads_in_the_students_form(mode, demonstration, expected):
    assert demonstrations.with_demonstration(mode, demonstration) == expected
    demonstrations.check(expected)


def student_of(raw, **changes):
    """The run of its student in the comparison of methods."""
    plan = compared(raw, methods=["context_distillation"], **changes)
    (run,) = (run for run, named in plan.trained if named["objective"] == "context_distillation")
    return run


def test_planned_are_states_of_the_one_teacher_in_another_prompt_than_the_students(raw):
    run = student_of(raw)
    states = run.needs["states"]
    assert (run.parameters["train_prompt"], states.parameters["train_prompt"]) == (
        *("zero-shot", "one-shot"),
    )
    assert states.needs["teacher"] is run.needs["teacher"]
    assert run.needs["teacher"].parameters["train_prompt"] == "zero-shot"


def test_the_text_to_learn_stays_what_the_teacher_says_as_it_is_asked(raw):
    run = student_of(raw, targets="sequence_kd")
    answers = run.needs["teacher_answers"]
    assert run.needs["states"].needs["teacher_answers"] is answers
    assert answers.parameters["eval_prompt"] == "zero-shot"


@pytest.mark.parametrize("several", [[STAGE, PLAIN], [PLAIN, STAGE]])
def test_stages_in_which_teachers_read_otherwise_are_refused(several):
    with pytest.raises(StudyError, match="read a demonstration in some stages and not in others"):
        stages.parse(several)
    gold = {"steps": 2, "losses": {"cross_entropy": 1.0}}
    assert stages.demonstration(stages.parse([gold, STAGE])) == "one-shot"
    assert stages.demonstration(stages.parse([gold])) == ""


def test_experiments_that_prompt_teachers_themselves_refuse_it(raw):
    with pytest.raises(StudyError, match="or reads a demonstration"):
        prompted(raw, stages=[STAGE])


def test_a_demonstration_must_be_shown():
    with pytest.raises(StudyError, match="demonstration of context_distillation must be 'one-s"):
        stages.parse([STAGE | {"options": {"demonstration": "zero-shot"}}])
