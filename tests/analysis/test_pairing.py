"""Models are compared on the same questions, each once, or not at all."""

import pandas as pd
import pytest

from studylib.analysis import contrasts, pairing, retention
from studylib.core import labels
from studylib.core.errors import StudyError


def answers(role: str, questions: list[str], seed: int = 0, **more: object) -> pd.DataFrame:
    """Rows of one model: two questions an article."""
    named = dict(
        family="f",
        student="" if role == "teacher" else "f-5",
        test_set="near",
        eval_prompt="zero-shot",
        role=role,
        seed=seed,
    )
    articles = [f"a{int(name[1:]) // 2}" for name in questions]
    return pd.DataFrame(
        {"question": questions, "article": articles, "repeat": False, "untouched": True}
    ).assign(**named | more)


BOTH = ["q0", "q1", "q2"]
SEEDS = pd.concat([answers("student", BOTH), answers("student", BOTH, seed=1)])


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        (
            [answers("student", BOTH), answers("control", ["q0", "q1", "q3"])],
            (
                "f-5 (student, near zero-shot) and f-5 (control, near zero-shot) cannot be"
                " compared: question 'q2' of seed 0 (article 'a1') is answered by the first alone"
                " (answers on one side only: 2): export both anew."
            ),
        ),
        (
            [answers("student", BOTH), answers("teacher", [*BOTH, "q3"])],
            (
                "f (teacher, near zero-shot) and f-5 (student, near zero-shot) cannot be compared:"
                " question 'q3' of seed 0 (article 'a1') is answered by the first alone (answers on"
                " one side only: 1): export both anew."
            ),
        ),
        (
            [answers("student", BOTH), answers("control", BOTH, article="a9")],
            (
                "f-5 (student, near zero-shot) and f-5 (control, near zero-shot) cannot be"
                " compared: question 'q0' of seed 0 (article 'a0') is answered by the first alone"
                " (answers on one side only: 6): export both anew."
            ),
        ),
        (
            [answers("student", ["q0", "q0"])],
            (
                "f-5 (student, near zero-shot) has two answers to question 'q0' of seed 0: export"
                " it anew."
            ),
        ),
        (
            [answers("student", BOTH), answers("control", [*BOTH, "q2"])],
            (
                "f-5 (control, near zero-shot) has two answers to question 'q2' of seed 0: export"
                " it anew."
            ),
        ),
        (
            [SEEDS[:-1]],
            (
                "f-5 (student, near zero-shot) has no answer to question 'q2' of seed 1, which it"
                " has in another seed: export it anew."
            ),
        ),
        (
            [SEEDS, SEEDS.assign(seed=SEEDS.seed + 1, role="control")],
            "question 'q0' of seed 0 (article 'a0') is answered by the first alone",
        ),
    ],
)
def test_what_cannot_be_paired_is_named(models: list[pd.DataFrame], sentence: str):
    with pytest.raises(StudyError) as error:
        pairing.check(*models)
    assert sentence in str(error.value)


def test_the_same_questions_in_any_order_are_paired():
    pairing.check(SEEDS, SEEDS.assign(role="control").sample(frac=1, random_state=0))


@pytest.mark.parametrize("compared", [retention.compare, contrasts.contrasts])
def test_comparisons_refuse_other_questions(compared):
    """Same number of questions, another one among them: nothing would show it."""
    scores = dict.fromkeys((*labels.METRICS, *retention.LIKENESS, "probability"), 0.5)
    scores |= dict.fromkeys(
        (*retention.SETTING[1:2], "teacher", "init", "targets", "objective", "language"),
        "fine-tuned",
    )
    scores |= {
        "steps": 5,
        "parameters_total": 10,
        "parameters_nonembedding": 5,
        "run": "r",
        **scores,
    }
    rows = pd.concat([answers(role, BOTH, **scores) for role in ("teacher", "student", "control")])
    assert len(compared(rows))
    rows.loc[(rows.role == "student") & (rows.question == "q2"), "question"] = "q9"
    with pytest.raises(StudyError, match=r"cannot be compared: question 'q(2|9)' of seed 0"):
        compared(rows)
