"""Rows of answers, from the store or as they were exported."""

import json

import pandas as pd
import pytest
from miniatures import planned, prompted

from studylib.app import rows as app_rows
from studylib.app import run_states, study
from studylib.app.rows import COUNTS
from studylib.core.errors import StudyError
from studylib.data import sources
from studylib.data import squad as data_squad
from studylib.data.squad import Question
from studylib.evaluation import metrics, question_scores
from studylib.runs import inputs
from studylib.store.store import Store

pytestmark = pytest.mark.slow


def test_rows_hold_every_question_of_every_model_once(finished):
    plan, store = finished
    rows = study.rows(plan, store)
    asked = inputs.questions(plan.tests[0])
    assert len(rows) == len(plan.asked) * len(asked)
    assert not rows.duplicated(["run", "question"]).any()
    assert rows[["exact_match", "f1", "rouge_l"]].stack().between(0, 1).all()
    assert set(rows.question) == {q.id for q in asked}


@pytest.fixture
def shown(raw, tmp_path):
    """A plan with a test set of two paragraphs, one of which was seen, and the folder with rows of
    its teacher as they were exported before questions were marked; the fourth question repeats the
    third."""
    paragraphs = [
        {
            "context": f"Kamo lives in {place}.",
            "qas": [
                {"id": name, "question": asked, "answers": [{"text": place, "answer_start": 14}]}
            ],
        }
        for name, place, asked in (("a", "Tiru", "Where?"), ("c", "Belu", "Where?"))
    ]
    for paragraph, name, asked in zip(paragraphs, "bd", ("Who?", "where? "), strict=True):
        paragraph["qas"].append({**paragraph["qas"][0], "id": name, "question": asked})
    file = tmp_path / "test.json"
    file.write_text(json.dumps({"data": [{"title": "T", "paragraphs": paragraphs}]}))
    plan = planned(
        raw, tests={"near": {"source": f"path:{file}", "paragraphs": 2, "seen_paragraphs": 1}}
    )
    teacher, folder = plan.asked[0], tmp_path / "shown" / "capacity_gap"
    columns = dict.fromkeys(
        [*COUNTS, "run", *question_scores.TRAITS, *question_scores.SCORES, "answer"], 0
    ) | {
        "article": "T",
        "language": "en",
    }
    folder.mkdir(parents=True)
    pd.DataFrame({"question": list("abcd")}).assign(
        **columns, **teacher.called, planned=teacher.planned
    ).to_parquet(folder / "rows.parquet")
    return plan, folder


def test_rows_that_were_exported_without_marks_are_marked_by_their_data_set(shown, tmp_path):
    plan, folder = shown
    rows = study.rows(plan, Store(tmp_path / "empty"), folder).set_index("question")
    seen = next(pair for pair in ("ab", "cd") if rows.paragraph[pair[0]] == 0)
    assert rows.untouched.to_dict() == {name: name not in seen for name in "abcd"}
    assert rows.repeat.to_dict() == {"a": False, "b": False, "c": False, "d": True}


def test_what_a_set_declares_as_seen_is_read_off_marked_rows_and_changes_no_run(
    shown, raw, tmp_path, monkeypatch
):
    plan, folder = shown
    study.rows(plan, Store(tmp_path / "empty"), folder).to_parquet(folder / "rows.parquet")
    monkeypatch.setattr(inputs, "loaded", lambda source: pytest.fail("the data set is read"))
    described = dict(plan.tests[0].value)
    for seen, untouched in ((None, 4), (1, 2), (2, 0)):
        declared = {name: value for name, value in described.items() if name != "seen_paragraphs"}
        other = planned(raw, tests={"near": declared | ({"seen_paragraphs": seen} if seen else {})})
        assert [run.planned for run in other.runs] == [run.planned for run in plan.runs]
        assert study.rows(other, Store(tmp_path / "empty"), folder).untouched.sum() == untouched


def test_rows_of_a_question_that_the_data_set_has_not_are_refused(shown, tmp_path):
    plan, folder = shown
    rows = pd.read_parquet(folder / "rows.parquet")
    rows.assign(question=rows.question.replace("b", "else")).to_parquet(folder / "rows.parquet")
    with pytest.raises(
        StudyError,
        match=(
            "The exported rows of near have question 'else', which the data set has not: export"
            " them anew"
        ),
    ):
        study.rows(plan, Store(tmp_path / "empty"), folder)


def test_rows_hold_what_a_student_has_in_common_with_its_teacher(finished):
    plan, store = finished
    rows = study.rows(plan, store)
    assert rows.probability.between(0, 1).all()
    taught = rows[rows.role != "teacher"]
    assert rows[rows.role == "teacher"][["agreement", "loyalty"]].isna().all(axis=None)
    assert (
        taught.agreement.isin([0.0, 1.0]).all()
        and taught.loyalty.between(0, 1).all()
        and taught.loyalty.nunique() > 10
    )
    asked = next(asked for asked in plan.asked if asked.teacher is not None)
    student_answers, teacher_answers = (
        json.loads(store.path(run, "answers.json").read_text())
        for run in (asked.answers, asked.teacher.answers)
    )
    student_rows = taught[taught.run == store.key(asked.answers)].set_index("question")
    for question, agrees in student_rows.agreement.items():
        assert agrees == metrics.agreement(
            student_answers[question]["text"], teacher_answers[question]["text"]
        )
        assert student_rows.probability[question] == student_answers[question]["probability"]


def test_mlqa_in_english_is_scored_by_mlqas_own_rules(finished, monkeypatch):
    """A dash is punctuation there and none in SQuAD's script."""
    plan, store = finished
    asked = next(asked for asked in plan.asked if asked.teacher is not None)
    monkeypatch.setattr(
        inputs,
        "loaded",
        lambda source: data_squad.Loaded([Question("a", "t", "24–10", "?", (("24–10", 0),))], 0),
    )
    monkeypatch.setattr(
        Store,
        "read",
        lambda store, run, name: {
            "a": {"text": "2410", "probability": 1.0} if run.kind == "answers" else 1.0
        },
    )
    for is_mlqa in (True, False):
        monkeypatch.setattr(sources, "is_mlqa", lambda dataset, value=is_mlqa: value)
        assert list(app_rows._scored(asked, store).exact_match) == [is_mlqa]


def test_what_one_experiment_exported_another_shows(raw, tmp_path):
    plan, store = planned(raw, sizes=[2], from_base=[]), Store(tmp_path / "home")
    study.complete(plan, store, tmp_path / "capacity_gap")
    other, nothing = (
        prompted(raw, eval_prompts=["zero-shot", "one-shot", "one-shot random"]),
        Store(tmp_path / "empty"),
    )
    shown = study.rows(other, nothing, tmp_path / "prompting_mode")
    assert {(row.role, row.train_prompt, row.eval_prompt) for row in shown.itertuples()} == {
        (role, "zero-shot", asked)
        for role in ("teacher", "student")
        for asked in ("zero-shot", "one-shot")
    }
    assert (
        run_states.showable(other, tmp_path / "prompting_mode")
        and not (tmp_path / "prompting_mode").exists()
    )
    assert set(study.origins(other, nothing, tmp_path / "prompting_mode").kind) >= {
        "teacher",
        "answers",
        "student",
        "loyalty",
    }
