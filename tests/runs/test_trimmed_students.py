"""Students with a trimmed vocabulary: planned, cut, taught by a teacher with the whole, asked."""

import json

import pytest
import torch
from miniatures import chosen, planned, tokenizer

from studylib.app import rows, study
from studylib.core.errors import StudyError
from studylib.data import vocabulary as words
from studylib.models import parts, trimming
from studylib.runs import comparison, inputs, kinds, loyalty, plan_parts
from studylib.runs.budget import SHARED
from studylib.store.store import Store
from studylib.training.teachers import CachedStates

TOKENS = 900
SIZES = [f"3x16v{TOKENS}", "3x16"]


@pytest.fixture(scope="module")
def trimmed_study(raw, tmp_path_factory):
    """A study of a student with the whole vocabulary and one with fewer tokens."""
    plan = planned(raw, sizes=SIZES, from_base=[], eval_prompts=["zero-shot"])
    store = Store(tmp_path_factory.mktemp("home"))
    study.complete(plan, store)
    return plan, store


def of(plan, kind, trimmed=True):
    """The first run of a kind whose model has a trimmed vocabulary, or the whole one."""
    return next(
        run
        for run in plan.runs
        if run.kind == kind and (str(TOKENS) in run.label or "vocabulary" in run.label) == trimmed
    )


def states_of(store, run):
    """Those of its teacher that a student is trained by."""
    return CachedStates(store.path(run.needs["states"]).glob("states-*.safetensors"))


def test_the_tokens_of_the_training_text_are_kept(trimmed_study):
    plan, store = trimmed_study
    run = of(plan, "vocabulary")
    trimmed = inputs.trimmed(store, run)
    texts = {q.context for q in inputs.questions(run.needs["train"])}
    assert len(trimmed.tokenizer) == len(trimmed.ids) == TOKENS
    used = {token for ids in words.text_ids(tokenizer(), sorted(texts)) for token in ids}
    assert used <= set(trimmed.ids.tolist()), "there are fewer than are kept"
    assert trimming.added(tokenizer(), trimmed.tokenizer, texts) == 0
    assert store.result(run)["facts"]["added"] == 0


def test_the_student_has_the_rows_of_these_tokens_and_is_planned_so(trimmed_study):
    plan, store = trimmed_study
    run = of(plan, "cut")
    model, tokens = inputs.load(store, run)
    whole, _ = inputs.load(store, of(plan, "cut", trimmed=False))
    ids = inputs.trimmed(store, run.needs["vocabulary"]).ids
    assert model.config.vocab_size == words.size(tokens) == TOKENS
    fewer, every = (m.get_input_embeddings().weight for m in (model, whole))
    assert torch.equal(fewer, every[ids])
    assert parts.parameters(model)["total"] == kinds.took(SHARED, run).parameters


def test_the_teachers_states_are_those_of_the_same_tokens_by_their_old_ids(trimmed_study):
    plan, store = trimmed_study
    run = of(plan, "student")
    model, tokens = inputs.load(store, run.needs["init"])
    pack, *_ = inputs.rows(run, store, tokens, model)
    stored = states_of(store, run)(pack)
    teacher, _ = inputs.load(store, run.needs["teacher"])
    ids = inputs.trimmed(store, run.needs["init"].needs["vocabulary"]).ids
    with torch.no_grad():
        place = {
            "input_ids": ids[torch.tensor([pack.ids[: pack.answers.at[0] + 1]])],
            "position_ids": torch.tensor([pack.positions[: pack.answers.at[0] + 1]]),
        }
        expected = teacher.base_model(**place).last_hidden_state[0, -1]
    torch.testing.assert_close(stored[0], expected, rtol=1e-4, atol=1e-5)


def test_the_teacher_says_how_likely_kept_tokens_are_among_themselves(trimmed_study):
    plan, store = trimmed_study
    run = of(plan, "student")
    _, tokens = inputs.load(store, run.needs["init"])
    teacher = comparison.teacher(run, store, tokens, run.needs["teacher"])
    whole, _ = inputs.load(store, run.needs["teacher"])
    pack, *_ = inputs.rows(run, store, tokens, teacher)
    states = states_of(store, run)(pack)
    ids = inputs.trimmed(store, run.needs["init"].needs["vocabulary"]).ids
    usual = parts.head(whole, states, words.size(tokenizer())).softmax(-1)[:, ids]
    torch.testing.assert_close(
        parts.head(teacher, states, TOKENS).softmax(-1), usual / usual.sum(-1, keepdim=True)
    )


def test_every_question_is_answered_and_compared(trimmed_study):
    plan, store = trimmed_study
    table = rows.rows(plan, store)
    students = table[table.student.str.endswith(f"v{TOKENS}")]
    assert len(students) and students.f1.notna().all() and students.loyalty.notna().all()


def test_loyalty_leaves_out_answers_that_are_split_anew(raw, tmp_path):
    plan = planned(raw, sizes=["3v480"], from_base=[], eval_prompts=["zero-shot"])
    store = Store(tmp_path)
    study.complete(plan, store)
    run = next(run for run in plan.runs if run.kind == "loyalty")
    compared = json.loads(store.path(run, "loyalty.json").read_text())
    _, tokens = inputs.load(store, run.needs["student"].needs["model"])
    test = inputs.questions(run.needs["student"].needs["test"])
    same = {
        q.id
        for q in test
        if len(words.text_ids(tokens, [" " + q.answers[0][0]])[0])
        == len(words.text_ids(tokenizer(), [" " + q.answers[0][0]])[0])
    }
    assert set(compared) == {q.id for q in test}
    assert {q for q, value in compared.items() if value is not None} == same < set(compared)
    assert same
    assert rows.rows(plan, store).loyalty.isna().any()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (["3v99"], "a vocabulary of 99 tokens is too small"),
        (["3v99999"], "cannot be trimmed to 99,999 tokens: the tokenizer has 1,714"),
        (["4v900>3v900"], "a vocabulary is trimmed last"),
    ],
)
def test_what_cannot_be_trimmed_is_refused(raw, tmp_path, sizes, message):
    with pytest.raises(StudyError, match=message):
        study.complete(planned(raw, sizes=sizes, from_base=[]), Store(tmp_path))


@pytest.mark.parametrize("tokens", [99, 1714 + 1])
def test_a_size_that_cannot_be_is_refused_before_anything_is_made(raw, tokens):
    with pytest.raises(StudyError):
        inputs.check(planned(raw, sizes=[f"3v{tokens}"], from_base=[]).runs)


@pytest.mark.parametrize("size", ["2v900", "2"])
def test_a_teacher_of_other_tokens_is_refused(raw, size):
    with pytest.raises(StudyError, match="trimmed to different vocabularies"):
        chosen(raw, size=size, smaller="3v800")


def test_teachers_that_are_trimmed_alike_or_not_at_all_teach_a_trimmed_student(raw, tmp_path):
    plan = chosen(raw, size="2v900", smaller="3v900")
    store = Store(tmp_path)
    study.complete(plan, store)
    students = [run for run, called in plan.trained if called["role"] == "student"]
    trimmed = [
        run
        for student in students
        for name, run in student.needs.items()
        if name.startswith("states") and "vocabulary" in run.needs
    ]
    assert len(students) > 4 and trimmed, "of teachers with the whole vocabulary alone"
    assert all(plan_parts.vocabulary_of(run.needs["teacher"]) is None for run in trimmed)
    assert rows.rows(plan, store).f1.notna().all()


def test_loyalty_pairs_windows_of_a_question():
    """By hand: of three questions one is read in two windows by both, one in more by the student,
    one is not comparable."""
    student_states = {name: torch.ones(1) for name in ("0 a", "1 b", "2 a", "3 b", "4 c", "5 b")}
    teacher_states = {name: torch.ones(1) for name in ("0 a", "1 a", "2 b", "3 b", "4 c")}
    assert loyalty._paired(student_states, teacher_states, {"a", "b"}) == [
        ("0 a", "0 a"),
        ("2 a", "1 a"),
    ]
    assert loyalty._paired(teacher_states, teacher_states, None) == [
        (name, name) for name in teacher_states
    ]


def test_a_method_that_asks_both_is_refused(raw):
    stages = [{"steps": 2, "method": "step_by_step"}]
    with pytest.raises(StudyError, match="step_by_step asks teacher and student"):
        planned(raw, sizes=["3v900"], from_base=[], stages=stages)


def test_another_vocabulary_is_refused(trimmed_study):
    plan, store = trimmed_study
    run = of(plan, "student")
    with pytest.raises(StudyError, match="have different vocabularies"):
        comparison.teacher(run, store, tokenizer(), run.needs["teacher"])
