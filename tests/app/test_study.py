"""A whole miniature study from plan to weights."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from miniatures import (
    FACTS,
    chosen,
    model,
    packs,
    planned,
    prompted,
    stages,
    students,
    tokenizer,
    unpack,
)

from studylib.analysis import (
    prompting,
    retention,
    teacher_vs_student,
)
from studylib.app import study
from studylib.core.errors import StudyError
from studylib.data import prompts, vocabulary
from studylib.evaluation import generate, metrics
from studylib.evaluation.answers import Answer, best
from studylib.methods import objective
from studylib.methods import stages as method_stages
from studylib.models import loading, parts, prune, reconstruct
from studylib.runs import inputs, plan_parts, supervision
from studylib.store.store import Store
from studylib.training import loop, teachers
from studylib.training.checkpoint import Diverged
from studylib.training.config import Recipe

pytestmark = pytest.mark.slow


def test_a_shallower_student_more_changes_nothing_that_is_there(finished, raw):
    plan, store = finished
    more = planned(raw, stages=stages(forward_kl=1.0, hidden_mse=0.5), sizes=[3, 2, 1])
    assert {store.key(run) for run in plan.runs} < {store.key(run) for run in more.runs}


def test_a_file_that_changed_is_read_again(tmp_path):
    content = {
        "data": [
            {
                "title": "t",
                "paragraphs": [
                    {
                        "context": "Ka is Bo.",
                        "qas": [
                            {
                                "id": "1",
                                "question": "What?",
                                "answers": [{"text": "Bo", "answer_start": 6}],
                            }
                        ],
                    }
                ],
            }
        ]
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert (
        inputs.questions(plan_parts.dataset("a", {"source": f"path:{tmp_path}/a.json"}))[0].question
        == "What?"
    )
    (tmp_path / "a.json").write_text(json.dumps(content).replace("What?", "Which?"))
    assert (
        inputs.questions(plan_parts.dataset("a", {"source": f"path:{tmp_path}/a.json"}))[0].question
        == "Which?"
    )


def test_the_student_kept_the_layers_that_the_choice_left(finished):
    plan, store = finished
    order = next(run for run in plan.runs if run.kind == "layers")
    gone = [block for block, _ in json.loads(store.path(order, "order.json").read_text())["order"]]
    for (_, _, name), run in students(plan).items():
        if name:
            depth = int(name.rpartition("-")[2])
            assert json.loads(store.path(run.needs["init"], "layers.json").read_text()) == sorted(
                set(range(4)) - set(gone[: 4 - depth])
            )
            assert (
                loading.load_folder(store.path(run, "model"))[0].config.num_hidden_layers == depth
            )


def test_a_cut_model_is_the_start_cut_and_reconstructed_on_training_rows(finished):
    plan, store = finished
    run = next(run for run in plan.runs if run.kind == "cut")
    start, words = loading.load_folder(store.path(run.needs["init"], "model"))
    keep = json.loads(store.path(run, "layers.json").read_text())
    rows = inputs.rows(run, store, words, start)
    expected = prune.cut(start, keep)
    reconstruct.blocks(expected, start, keep, inputs.some(rows, 2, 2, 0), report=lambda *_: None)
    cut_model = loading.load_folder(store.path(run, "model"))[0]
    assert all(
        torch.equal(a, b)
        for a, b in zip(cut_model.parameters(), expected.parameters(), strict=True)
    )
    assert not all(
        torch.equal(a, b)
        for a, b in zip(cut_model.parameters(), prune.cut(start, keep).parameters(), strict=True)
    )
    assert len(store.result(run)["facts"]["gaps"]) == len(keep)


def test_neurons_may_go_by_gradients_of_the_model_that_is_cut(raw, tmp_path):
    """One row after the other of those that it is reconstructed on."""
    few = dict(sizes=["3x24"], from_base=[], eval_prompts=["zero-shot"])
    plan, store = planned(raw, pruning_criterion="gradient", **few), Store(tmp_path)
    study.complete(plan, store)
    cut = next(run for run in plan.runs if run.kind == "cut")
    start, words = inputs.load(store, cut.needs["init"])
    keep = json.loads(store.path(cut, "layers.json").read_text())
    rows = inputs.rows(cut, store, words, start)
    every = prune.neuron_importance(
        start,
        inputs.some(rows, 2, 1, 0),
        objective.cross_entropy,
        vocabulary=vocabulary.size(words),
    )
    batches, students = inputs.some(rows, 2, 2, 0), []
    for importance in ([every[block] for block in keep], []):
        students.append(prune.cut(start, keep))
        how = {"neurons": 24, "importance": importance, "report": lambda *_: None}
        reconstruct.blocks(students[-1], start, keep, batches, **how)
    cut_model = inputs.load(store, cut)[0]
    same, other = (
        [torch.equal(*pair) for pair in zip(cut_model.parameters(), each.parameters(), strict=True)]
        for each in students
    )
    assert all(same) and not all(other)


def test_a_student_may_be_cut_from_a_student_and_is_reconstructed_towards_the_teacher(
    raw, tmp_path
):
    few = dict(
        sizes=[3, "3>2x24"],
        from_base=[],
        eval_prompts=["zero-shot"],
        stages=stages(forward_kl=1.0, hidden_mse=1.0),
    )
    plan, store = planned(raw, **few), Store(tmp_path)
    study.complete(plan, store)
    arms = students(plan)
    larger, smaller, control = (
        arms["student", "fine-tuned", "mini-3"],
        arms["student", "fine-tuned", "mini-3>2x24"],
        arms["control", "fine-tuned", "mini-3>2x24"],
    )
    cut = smaller.needs["init"]
    assert cut is control.needs["init"] and cut.needs["init"] is larger
    before, keep = (
        json.loads(store.path(run, "layers.json").read_text())
        for run in (larger.needs["init"], cut)
    )
    assert set(keep) < set(before) and len(keep) == 2
    teacher, words = inputs.load(store, larger.needs["teacher"])
    expected = prune.cut(inputs.load(store, larger)[0], [before.index(block) for block in keep])
    batches = inputs.some(inputs.rows(cut, store, words, teacher), 2, 2, 0)
    reconstruct.blocks(expected, teacher, keep, batches, neurons=24, report=lambda *_: None)
    cut_model = inputs.load(store, cut)[0]
    assert all(
        torch.equal(a, b)
        for a, b in zip(cut_model.parameters(), expected.parameters(), strict=True)
    )
    assert supervision._teacher(smaller, store, words, [], "teacher")[0].aligned == [keep[1] - 1, 3]


def test_a_student_is_held_to_what_the_next_kept_block_read(finished):
    plan, store = finished
    run = students(plan)["student", "fine-tuned", "mini-2"]
    keep = json.loads(store.path(run.needs["init"], "layers.json").read_text())
    teacher, _ = supervision._teacher(run, store, tokenizer(), [], "teacher")
    assert list(teacher.aligned) == [keep[1] - 1, 3]
    assert teacher.model.config.num_hidden_layers == 4


@pytest.mark.parametrize(
    ("count", "size", "drawn"), [(4, 2, 4), (5, 2, 5), (100, 5, 12), (9, 40, 9)]
)
def test_rows_to_choose_and_reconstruct_on_are_drawn_once_each(count, size, drawn):
    rows = packs()[:12]
    ids = [
        tuple(row[row >= 0].tolist())
        for batch in inputs.some(rows, count, size, 0)
        for row in batch.ids.masked_fill(~batch.real, -1)
    ]
    assert len(ids) == len(set(ids)) == drawn and set(ids) <= {tuple(row.ids) for row in rows}


def test_loyalty_is_that_of_both_models_side_by_side(finished):
    """Against both models run here on rows of one question each."""
    plan, store = finished
    asked = next(
        asked
        for asked in plan.asked
        if asked.teacher is not None and asked.called["eval_prompt"] == "one-shot"
    )
    student, words = loading.load_folder(store.path(asked.answers.needs["model"], "model"))
    teacher, _ = loading.load_folder(store.path(asked.teacher.answers.needs["model"], "model"))
    loyalty = json.loads(store.path(asked.loyalty, "loyalty.json").read_text())
    built = inputs.prompted(asked.answers, "test", words, student.config)
    with torch.no_grad():
        for row in (row for prompt in built for row in unpack(prompt)):
            logits = [
                parts.head(net, teachers.answer_states(net, row), len(words))
                for net in (student.eval(), teacher.eval())
            ]
            assert loyalty[row.question_ids[0]] == pytest.approx(
                metrics.probability_loyalty(*logits).mean().item(), abs=1e-3
            )


def test_a_study_of_contexts_that_do_not_fit_asks_all_windows(tmp_path):
    """Training, states, answers and loyalty on a model of 130 positions, whose contexts have more
    tokens."""
    loading.save(model("llama", max_position_embeddings=130), tokenizer(), tmp_path / "base")
    long = {"paragraphs": 6, "facts": 10}
    sets = {part: {"source": f"facts:{part}", **long} for part in ("train", "dev")} | {
        "tests": {"near": {"source": "facts:test", **long}}
    }
    few = dict(sizes=[3], from_base=[], eval_prompts=["zero-shot"])
    plan, store = planned(f"path:{tmp_path / 'base'}", **sets, **few), Store(tmp_path / "home")
    study.complete(plan, store)
    rows = study.rows(plan, store)
    assert (
        len(rows) == 3 * 60
        and not rows.duplicated(["run", "question"]).any()
        and rows.loyalty.notna().sum() == 2 * 60
    )
    asked = plan.asked[0]
    net, words = loading.load_folder(store.path(asked.answers.needs["model"], "model"))
    built = prompts.build(inputs.questions(plan.tests[0]), words, mode="zero-shot", longest=130)
    assert len(built) > 6 and np.mean([len(prompt.branches) for prompt in built]) == 10
    answers = generate.answer(net, words, built)
    held = json.loads(store.path(asked.answers, "answers.json").read_text())
    for name, answer in best(answers).items():
        assert held[name]["text"] == answer.text
        assert answer.log_probability / answer.tokens == max(
            a.log_probability / a.tokens for a in answers if a.question_id == name
        )


def test_every_arm_has_a_search_of_equal_size_and_takes_the_learning_rate_that_did_best(
    raw, tmp_path
):
    plan, store = planned(raw, lrs=[1e-5, 1e-2], eval_prompts=["zero-shot"]), Store(tmp_path)
    study.complete(plan, store)
    arms = [run for run, called in plan.trained if called["role"] != "teacher"]
    searches = [run.needs["lr_search"] for run in arms]
    assert len({id(search) for search in searches}) == len(arms) == 6
    assert {
        (tuple(search.parameters["lr"]), search.parameters["lr_search_steps"])
        for search in searches
    } == {((1e-5, 1e-2), 1)}
    for arm, search in zip(arms, searches, strict=True):
        rates = json.loads(store.path(search, "rate.json").read_text())
        best = min(rates["tried"], key=lambda tried: tried["dev_cross_entropy"])["rate"]
        assert store.result(arm)["facts"]["rate"] == rates["best"] == best
    (net, words), asked = inputs.load(store, searches[-1].needs["init"]), searches[-1].parameters
    trained, dev = (inputs.rows(searches[-1], store, words, net, need) for need in ("train", "dev"))
    recipe = Recipe(
        lr=1e-2,
        **{name: asked[name] for name in ("batch_size", "seed", "micro_batch_size", "precision")},
    )
    gold = method_stages.parse(method_stages.gold(1))
    loop.train(
        net, trained, stages=gold, recipe=recipe, vocabulary=len(words), work=tmp_path / "again"
    )
    with torch.no_grad():
        pairs = [
            (
                parts.head(net, teachers.answer_states(net, row), len(words)),
                torch.tensor(row.answers.targets),
            )
            for row in dev
        ]
        each = torch.cat([objective.cross_entropy(logits, targets) for logits, targets in pairs])
    assert rates["tried"][1]["dev_cross_entropy"] == pytest.approx(each.mean().item(), rel=1e-4), (
        "of the last arm, a control"
    )


def test_a_learning_rate_at_which_training_diverges_is_not_taken(raw, tmp_path):
    few = dict(
        sizes=[2],
        from_base=[],
        eval_prompts=["zero-shot"],
        stages=[{"steps": 6, "losses": {"cross_entropy": 1.0}}],
    )
    plan, store = planned(raw, lrs=[0.9, 1e-4], lr_search_steps=6, **few), Store(tmp_path / "a")
    kinds_train, tried = supervision.loop.train, []

    def diverging(*args, recipe, **more):
        tried.append(recipe.lr)
        if recipe.lr >= 0.9:
            raise Diverged("no number")
        return kinds_train(*args, recipe=recipe, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(supervision.loop, "train", diverging)
        study.complete(plan, store)
        search = next(run for run in plan.runs if run.kind == "lr_search")
        assert json.loads(store.path(search, "rate.json").read_text())["tried"][0] == {
            "rate": 0.9,
            "dev_cross_entropy": None,
        }
        assert store.result(search)["facts"]["rate"] == 1e-4 and 0.9 in tried
        with pytest.raises(
            StudyError, match=r"no number at any of the learning rates \[0.9\, 0.95\]"
        ):
            study.complete(planned(raw, lrs=[0.9, 0.95], lr_search_steps=6, **few), store)


def answering(text_of):
    """Stands for `generate.answer`: any model answers each question with the text of its id."""

    def answer(model, tokenizer, built, gold=False, shared=False, progress=iter, work=None):
        asked = [branch.question.id for prompt in built for branch in prompt.branches]
        return [
            Answer(q, text_of(q), 1.0, 0.0, 1, torch.zeros(1, model.config.hidden_size))
            for q in asked
        ]

    return answer


def first_answers(questions):
    """The first answer of each question, which is the text that a run learns."""
    return {q.id: q.answers[0][0] for q in questions}


@pytest.fixture
def half_right(raw, tmp_path, monkeypatch):
    """Completes a study of these targets whose teacher answers half of the questions rightly, by
    fiat, a quarter wrongly, and says nothing in the last. Returns the plan, the store, the gold
    answers and the teacher's."""

    def complete(targets):
        asked = inputs.questions(plan_parts.dataset("train", {"source": "facts:train", **FACTS}))
        texts = {
            q.id: q.answers[0][0] if number % 2 else "" if number % 4 else "nonsense"
            for number, q in enumerate(asked)
        }
        stand_in = answering(lambda question: texts.get(question, ""))
        monkeypatch.setattr(generate, "answer", stand_in)
        plan = planned(raw, targets=targets, sizes=[2], from_base=[], eval_prompts=["zero-shot"])
        store = Store(tmp_path)
        study.complete(plan, store)
        return plan, store, first_answers(asked), texts

    return complete


def test_the_text_to_learn_is_the_teachers(half_right):
    plan, store, whole, texts = half_right("sequence_kd")
    arms = students(plan)
    student, control = (arms[role, "fine-tuned", "mini-2"] for role in ("student", "control"))
    assert first_answers(inputs.learnt(control, store)) == whole, "same questions"
    assert first_answers(inputs.learnt(student, store)) == texts
    net, words = inputs.load(store, student)
    learnt = inputs.learnt(student, store)
    targets = [
        (branch.question.id, tuple(branch.target))
        for prompt in inputs.prompted(student, "train", words, net.config, learnt=learnt)
        for branch in prompt.branches
    ]
    assert {target for question, target in targets if texts[question] == ""} == {
        (words.eos_token_id,)
    }, "nothing but the end"
    assert dict(plan.trained)[student]["targets"] == "sequence_kd"


def test_the_text_to_learn_is_gold_where_the_teacher_is_right(half_right):
    plan, store, whole, texts = half_right("filtered")
    arms = students(plan)
    student, control = (arms[role, "fine-tuned", "mini-2"] for role in ("student", "control"))
    right = {question: text for question, text in whole.items() if texts[question] == text}
    assert first_answers(inputs.learnt(control, store)) == right, "same questions"
    assert first_answers(inputs.learnt(student, store)) == right
    assert dict(plan.trained)[student]["targets"] == "filtered"


TRAINING = {"source": "facts:train", **FACTS}
WITHHELD = {
    "of the same set": TRAINING | {"labelled_paragraphs": 1},
    "of another set": TRAINING | {"paragraphs": 1, "unlabelled": [TRAINING | {"seed": 1}]},
}


@pytest.fixture(scope="module", params=list(WITHHELD.values()), ids=list(WITHHELD))
def withheld(request, raw, tmp_path_factory):
    """A study in which the gold answers of all paragraphs but one are withheld: its plan and store.
    A teacher answers with what it was asked."""
    plan = planned(
        raw,
        train=request.param,
        targets="gold, sequence_kd where withheld",
        sizes=[2],
        from_base=[],
    )
    store = Store(tmp_path_factory.mktemp("withheld"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generate, "answer", answering("said of {}".format))
        study.complete(plan, store)
    return plan, store


def test_gold_answers_that_are_withheld_are_learnt_by_no_model_and_the_teachers_stand_for_them(
    withheld,
):
    plan, store = withheld
    source = inputs.loaded(plan.train)
    labelled = {q.id for q in source.labelled}
    assert len({q.context for q in source.labelled}) == 1 and {
        source.paragraphs[name] for name in labelled
    } == {0}
    arms = students(plan)
    student, control, teacher = (
        first_answers(inputs.learnt(arms[arm], store))
        for arm in (
            ("student", "fine-tuned", "mini-2"),
            ("control", "fine-tuned", "mini-2"),
            ("teacher", "base", ""),
        )
    )
    gold = first_answers(q for q in source.questions if q.id in labelled)
    assert control == teacher == gold
    assert student == gold | {
        q.id: f"said of {q.id}" for q in source.questions if q.id not in labelled
    }


def test_demonstrations_are_of_labelled_paragraphs(withheld):
    plan, store = withheld
    source = inputs.loaded(plan.train)
    labelled, trained = {q.id for q in source.labelled}, {q.article for q in source.questions}
    net, words = inputs.load(store, students(plan)["control", "fine-tuned", "mini-2"])
    shown = [
        prompt
        for run in plan.runs
        if run.kind == "answers"
        for prompt in inputs.prompted(run, "test", words, net.config)
    ]
    read = [
        words.decode(prompt.prefix)
        for prompt in shown
        if any(branch.question.article not in trained for branch in prompt.branches)
    ]
    contexts = [q.context for q in source.questions if q.id not in labelled]
    assert read and not any(context in text for context in contexts for text in read)


def test_stages_on_states_and_stages_on_logits_follow_one_another(raw, tmp_path):
    """The teacher beside the student in one, its states in the other; as in the README, and the
    other way round."""
    first, second = (
        {"steps": 1, "losses": {"hidden_mse": 1}},
        {"steps": 1, "losses": {"forward_kl": 1, "jsd": {"tokens": "all"}}},
    )
    for number, both in enumerate(([first, second], [second, first])):
        plan = planned(raw, stages=both, sizes=[2], from_base=[], eval_prompts=["zero-shot"])
        study.complete(plan, Store(tmp_path))
        learned = study.curves(plan, Store(tmp_path))
        student = learned[learned.role == "student"].set_index("step")
        assert pd.notna(student.loc[1 + number, "hidden_mse"]) and pd.notna(
            student.loc[2 - number, "jsd"]
        )


def test_losses_at_all_tokens_store_states_at_all_tokens(raw, tmp_path):
    everywhere = [{"steps": 2, "losses": {"forward_kl": {"tokens": "all"}}}]
    plan, store = (
        planned(raw, stages=everywhere, sizes=[2], from_base=[], eval_prompts=["zero-shot"]),
        Store(tmp_path),
    )
    study.complete(plan, store)
    (student,) = (run for run, called in plan.trained if called["role"] == "student")
    assert student.needs["states"].parameters["tokens"] == "all"
    served = teachers.CachedStates(
        store.path(student.needs["states"]).glob("states-*.safetensors"), "all"
    )
    net, words = inputs.load(store, student.needs["teacher"])
    row = inputs.rows(student, store, words, net)[0]
    assert served(row).shape == (len(row.ids), 32)
    assert torch.equal(served(row), teachers.row_states(net.eval(), row))


def test_teachers_of_every_kind_teach(raw, tmp_path):
    """Base and fine-tuned ones, prompted otherwise than the student, together, cut, taught, and the
    student's control."""
    plan, store = chosen(raw, num_evals=1), Store(tmp_path)
    study.complete(plan, store)
    rows = study.rows(plan, store)
    assert rows.groupby(["role", "teacher"], sort=False).size().nunique() == 1, (
        "all are asked the same questions"
    )
    others = rows[(rows.role == "teacher") & (rows.teacher != "fine-tuned")]
    assert list(others.teacher.unique()) == [
        "base",
        "base with a demonstration",
        "smaller, fine-tuned",
        "smaller, distilled",
    ]
    assert set(rows.eval_prompt[rows.teacher == "base with a demonstration"]) == {
        "zero-shot",
        "one-shot",
    }, "the student's and its teacher's"
    parameters = others.groupby("teacher").parameters_total.first()
    assert (
        parameters["base"]
        == rows[rows.teacher == "fine-tuned"].parameters_total.iloc[0]
        > parameters["smaller, fine-tuned"]
    )
    curves = study.curves(plan, store).set_index(["role", "step"]).loc["student", 0]
    assert curves.dev_forward_kl.nunique() == len(curves) == 7, (
        "each has distributions of its own to learn"
    )
    kept, scores = retention.compare(rows), teacher_vs_student.compare(rows)
    assert len(kept) == 1 + 1 + 7 and len(scores) == 6


def test_a_demonstration_that_the_teacher_sees_may_be_distilled_into_a_student_that_does_not(
    raw, tmp_path
):
    plan, store = prompted(raw), Store(tmp_path)
    study.complete(plan, store)
    rows = study.rows(plan, store)
    assert rows.groupby(["role", "teacher", "train_prompt", "eval_prompt"]).ngroups == 5 * 2 + 2
    learned = study.curves(plan, store)
    first = learned[(learned.role == "student") & (learned.step == 0)]
    assert first.dev_forward_kl.nunique() == 3, (
        "the plain student, the shown one, and the plain one that hears what the teacher sees"
    )
    modes = ["zero-shot", "one-shot"]
    worth, traits = prompting.prompting(rows, modes, modes), prompting.by_trait(rows, modes)
    assert list(worth.role.value_counts()[["student", "teacher"]]) == [1 + 2 + 2 + 2, 1 + 2 + 2]
    per_trait = traits.groupby("trait").n.sum()
    assert set(per_trait) == {rows.question.nunique()}
