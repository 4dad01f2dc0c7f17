"""A whole miniature study from plan to table."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from miniatures import FACTS, chosen, model, packs, planned, prompted, stages, students, tokenizer

from studylib.analysis import (
    contrasts,
    cost,
    figures,
    prompting,
    retention,
    summary,
    tables,
    teacher_sizes,
    teacher_vs_student,
)
from studylib.app import origin, study
from studylib.core import labels, versions
from studylib.core.errors import StudyError
from studylib.core.progress import Progress
from studylib.data import packing, prompts, sources
from studylib.data import squad as data_squad
from studylib.data.squad import Question
from studylib.evaluation import generate, metrics
from studylib.methods import objective
from studylib.methods import stages as method_stages
from studylib.models import loading, parts, prune, reconstruct
from studylib.runs import inputs, kinds, planning, supervision
from studylib.store import exports
from studylib.store.store import Store
from studylib.training import loop, teachers
from studylib.training.checkpoint import Diverged
from studylib.training.config import Recipe


@pytest.mark.parametrize(
    ("size", "said"), [(6, "4 layers only"), ("3x9999", "neurons a layer only")]
)
def test_a_size_larger_than_the_model_is_refused_before_anything_is_made(raw, tmp_path, size, said):
    plan = planned(raw, sizes=[size, 2], from_base=[])
    with pytest.raises(StudyError, match=said):
        study.complete(plan, Store(tmp_path))
    assert not any(tmp_path.rglob("manifest.json"))


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
        inputs.questions(planning.dataset("a", {"source": f"path:{tmp_path}/a.json"}))[0].question
        == "What?"
    )
    (tmp_path / "a.json").write_text(json.dumps(content).replace("What?", "Which?"))
    assert (
        inputs.questions(planning.dataset("a", {"source": f"path:{tmp_path}/a.json"}))[0].question
        == "Which?"
    )


@pytest.fixture(scope="module")
def finished(raw, tmp_path_factory):
    """A completed miniature study: its plan and store."""
    store = Store(tmp_path_factory.mktemp("home"))
    plan = planned(raw, stages=stages(forward_kl=1.0, hidden_mse=0.5))
    study.complete(plan, store)
    return plan, store


def test_everything_planned_is_there_afterwards_and_nothing_is_made_twice(finished, monkeypatch):
    plan, store = finished
    assert {store.state(run)[0] for run in plan.runs} == {"done"}
    monkeypatch.setattr(kinds, "make", lambda *_: lambda *_: pytest.fail("made twice"))
    study.complete(plan, store)


def test_rows_hold_every_question_of_every_model_once(finished):
    plan, store = finished
    rows = study.rows(plan, store)
    asked = inputs.questions(plan.tests[0])
    assert len(rows) == len(plan.asked) * len(asked)
    assert not rows.duplicated(["run", "question"]).any()
    assert rows[["exact_match", "f1", "rouge_l"]].stack().between(0, 1).all()
    assert set(rows.question) == {q.id for q in asked}


def test_results_are_the_means_of_the_rows_in_percent(finished):
    plan, store = finished
    rows = study.rows(plan, store)
    tidy = study.results(rows)
    expected = "family,teacher,student,role,init,targets,objective,train_prompt,eval_prompt,"
    expected += "test_set,language,seed,steps,metric,value,n,run"
    assert list(tidy.columns) == [
        *expected.split(","),
        "parameters_total",
        "parameters_nonembedding",
    ]
    assert set(tidy.role) == {"teacher", "student", "control"} and set(tidy.metric) == {
        *labels.METRICS,
        *labels.MENDED,
        *study.BESIDE,
    }
    assert not tidy.duplicated(["run", "metric", "language"]).any()
    assert set(tidy[tidy.role == "teacher"].metric) == {
        *labels.METRICS,
        *labels.MENDED,
        "probability",
    }  # it has no teacher to be like
    for line in tidy.itertuples():
        own = rows[(rows.run == line.run) & (rows.language == line.language)]
        assert line.n == len(own) and line.value == pytest.approx(
            100 * own[line.metric].mean(), abs=1e-4
        )


def test_results_and_costs_leave_out_repeats(finished):
    plan, store = finished
    rows = study.rows(plan, store)
    marked = rows.assign(
        repeat=rows.groupby("planned").cumcount() % 2 == 1,
        f1=rows.f1.where(rows.groupby("planned").cumcount() % 2 == 0, 9),
    )
    once = marked[~marked.repeat]
    pd.testing.assert_frame_equal(study.results(marked), study.results(once))
    pd.testing.assert_frame_equal(
        study.timing(plan, marked, store), study.timing(plan, once, store)
    )


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
    one, folder = plan.asked[0], tmp_path / "shown" / "capacity_gap"
    columns = dict.fromkeys([*study.COUNTS, "run", *study.TRAITS, *study.SCORES, "answer"], 0) | {
        "article": "T",
        "language": "en",
    }
    folder.mkdir(parents=True)
    pd.DataFrame({"question": list("abcd")}).assign(
        **columns, **one.called, planned=one.planned
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


def test_the_learning_rate_of_every_training_is_exported_and_stays(finished, tmp_path):
    plan, store = finished
    made = study.origins(plan, store)
    trained = made[made.kind.isin(("teacher", "student"))]
    assert (
        trained.lr.tolist() == [1e-3] * len(trained)
        and made.lr[made.kind == "answers"].isna().all()
    )
    exported(plan, store, tmp_path / "shown")
    pd.testing.assert_series_equal(
        study.origins(plan, Store(tmp_path / "empty"), tmp_path / "shown").lr, made.lr
    )
    before = pd.read_csv(tmp_path / "shown" / "runs.csv").drop(columns="lr")
    before.to_csv(
        tmp_path / "shown" / "runs.csv", index=False
    )  # as it was exported when learning rates were not
    (tmp_path / "shown" / exports.DIGESTS).unlink()
    pd.testing.assert_series_equal(
        study.origins(plan, Store(tmp_path / "empty"), tmp_path / "shown").lr, made.lr
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
    found = loading.load_folder(store.path(run, "model"))[0]
    assert all(
        torch.equal(a, b) for a, b in zip(found.parameters(), expected.parameters(), strict=True)
    )
    assert not all(
        torch.equal(a, b)
        for a, b in zip(found.parameters(), prune.cut(start, keep).parameters(), strict=True)
    )
    assert len(store.result(run)["facts"]["gaps"]) == len(keep)


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
    found = inputs.load(store, cut)[0]
    assert all(
        torch.equal(a, b) for a, b in zip(found.parameters(), expected.parameters(), strict=True)
    )
    assert supervision._teacher(smaller, store, words, [], "")[0].aligned == [keep[1] - 1, 3]


def test_a_student_is_held_to_what_the_next_kept_block_read(finished):
    plan, store = finished
    run = students(plan)["student", "fine-tuned", "mini-2"]
    keep = json.loads(store.path(run.needs["init"], "layers.json").read_text())
    teacher, _ = supervision._teacher(run, store, tokenizer(), [], "")
    assert list(teacher.aligned) == [keep[1] - 1, 3]
    assert teacher.model.config.num_hidden_layers == 4


@pytest.mark.parametrize(
    ("count", "size", "drawn"), [(4, 2, 4), (5, 2, 5), (100, 5, 12), (9, 40, 9)]
)
def test_rows_to_choose_and_reconstruct_on_are_drawn_once_each(count, size, drawn):
    rows = packs()[:12]
    found = [
        tuple(row[row >= 0].tolist())
        for batch in inputs.some(rows, count, size, 0)
        for row in batch.ids.masked_fill(~batch.real, -1)
    ]
    assert len(found) == len(set(found)) == drawn and set(found) <= {tuple(row.ids) for row in rows}


def test_curves_cover_every_step(finished):
    plan, store = finished
    learned = study.curves(plan, store)
    assert (learned.groupby("run").step.max() == 2).all() and learned.groupby(
        "run"
    ).step.nunique().eq(3).all()
    assert list(
        learned[learned.dev_f1.notna()].groupby("run").step.unique().map(list)
    ) == learned.run.nunique() * [[0, 2]]


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
    one = next(asked for asked in plan.asked if asked.teacher is not None)
    own, theirs = (
        json.loads(store.path(run, "answers.json").read_text())
        for run in (one.answers, one.teacher.answers)
    )
    found = taught[taught.run == store.key(one.answers)].set_index("question")
    for question, agrees in found.agreement.items():
        assert agrees == metrics.agreement(own[question]["text"], theirs[question]["text"])
        assert found.probability[question] == own[question]["probability"]


def test_loyalty_is_that_of_both_models_side_by_side(finished):
    """Against both models run here on rows of one question each."""
    plan, store = finished
    one = next(
        asked
        for asked in plan.asked
        if asked.teacher is not None and asked.called["eval_prompt"] == "one-shot"
    )
    own, words = loading.load_folder(store.path(one.answers.needs["model"], "model"))
    theirs, _ = loading.load_folder(store.path(one.teacher.answers.needs["model"], "model"))
    found = json.loads(store.path(one.loyalty, "loyalty.json").read_text())
    asked = inputs.prompted(one.answers, "test", words, own.config)
    with torch.no_grad():
        for row in (row for prompt in asked for row in packing.unpack(prompt)):
            logits = [
                parts.head(net, teachers.answer_states(net, row), len(words))
                for net in (own.eval(), theirs.eval())
            ]
            assert found[row.question_ids[0]] == pytest.approx(
                metrics.probability_loyalty(*logits).mean().item(), abs=1e-3
            )


def test_what_test_sets_share_with_training_is_counted(raw):
    same = {"source": "facts:train", **FACTS}
    leaks = study.leakage(
        planned(raw, tests={"near": {"source": "facts:test", **FACTS}, "same": same})
    )
    assert list(leaks.columns) == ["set", "articles", "contexts", "questions", "demonstrations"]
    assert leaks[leaks.set != "train"].set_index("set").T.to_dict("list") == {
        "dev": [0] * 4,
        "near": [0] * 4,
        "same": [6, 6, 12, 0],
    }


def test_a_demonstration_of_the_asked_article_would_be_counted(raw, monkeypatch):
    plan = planned(raw)
    monkeypatch.setitem(prompts.DEMONSTRATIONS, "one-shot", lambda asked, pool, seed: list(asked))
    assert study.leakage(plan).demonstrations.tolist() == [
        0,
        0,
        6,
    ]  # train, dev, near: the last alone is shown any
    trained = planned(raw, train_prompt="one-shot", eval_prompts=["zero-shot"])
    assert study.leakage(trained).demonstrations.tolist() == [6, 6, 0]


def test_one_article_is_enough_to_train_on_where_demonstrations_are_shown_in_asking_alone(raw):
    plan = planned(
        raw,
        train={"source": "facts:train", **FACTS, "paragraphs": 1},
        eval_prompts=["one-shot"],
        calibration_contexts=1,
        pruning_contexts=1,
        batch_size=1,
    )
    inputs.rehearse(plan.runs)
    assert study.leakage(plan).set_index("set").demonstrations.tolist() == [0, 0, 0]


def test_mlqa_in_english_is_scored_by_mlqas_own_rules(finished, monkeypatch):
    """A dash is punctuation there and none in SQuAD's script."""
    plan, store = finished
    one = next(asked for asked in plan.asked if asked.teacher is not None)
    monkeypatch.setattr(
        inputs,
        "loaded",
        lambda source: data_squad.Loaded([Question("a", "t", "24–10", "?", (("24–10", 0),))], 0),
    )
    monkeypatch.setattr(
        study,
        "_read",
        lambda store, run, name: {
            "a": {"text": "2410", "probability": 1.0} if run.kind == "answers" else 1.0
        },
    )
    for is_mlqa in (True, False):
        monkeypatch.setattr(sources, "is_mlqa", lambda dataset, found=is_mlqa: found)
        (row,) = study._scored(one, store)
        assert row["exact_match"] == is_mlqa


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"eval_prompts": ["chat zero-shot"]}, "no chat template"),
        ({"tests": {"near": {"source": "facts:test", "facts": 10}}}, "fits"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_trained(changes, said, raw, tmp_path):
    if said == "fits":
        loading.save(model("llama", max_position_embeddings=60), tokenizer(), tmp_path / "base")
        raw = f"path:{tmp_path / 'base'}"
    with pytest.raises(StudyError, match=said):
        study.complete(planned(raw, **changes), Store(tmp_path / "home"))
    assert not list((tmp_path / "home").glob("runs/*/*"))


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
    one = plan.asked[0]
    net, words = loading.load_folder(store.path(one.answers.needs["model"], "model"))
    built = prompts.build(inputs.questions(plan.tests[0]), words, mode="zero-shot", longest=130)
    assert len(built) > 6 and np.mean([len(prompt.branches) for prompt in built]) == 10
    said = generate.answer(net, words, built)
    held = json.loads(store.path(one.answers, "answers.json").read_text())
    for name, found in generate.best(said).items():
        assert held[name]["text"] == found.text
        assert found.log_probability / found.tokens == max(
            a.log_probability / a.tokens for a in said if a.question_id == name
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
        found = json.loads(store.path(search, "rate.json").read_text())
        best = min(found["tried"], key=lambda tried: tried["dev_cross_entropy"])["rate"]
        assert store.result(arm)["facts"]["rate"] == found["best"] == best
    (net, words), asked = inputs.load(store, searches[-1].needs["init"]), searches[-1].parameters
    trained, dev = (inputs.rows(searches[-1], store, words, net, need) for need in ("train", "dev"))
    recipe = Recipe(
        lr=1e-2,
        **{name: asked[name] for name in ("batch_size", "seed", "micro_batch_size", "precision")},
    )
    one = method_stages.parse(method_stages.gold(1))
    loop.train(
        net, trained, stages=one, recipe=recipe, vocabulary=len(words), work=tmp_path / "again"
    )
    with torch.no_grad():
        said = [
            (
                parts.head(net, teachers.answer_states(net, row), len(words)),
                torch.tensor(row.answers.targets),
            )
            for row in dev
        ]
        each = torch.cat([objective.cross_entropy(logits, targets) for logits, targets in said])
    assert found["tried"][1]["dev_cross_entropy"] == pytest.approx(each.mean().item(), rel=1e-4), (
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


@pytest.mark.parametrize("targets", ["sequence_kd", "filtered"])
def test_the_text_to_learn_is_the_teachers_or_gold_where_the_teacher_is_right(
    raw, tmp_path, monkeypatch, targets
):
    """Half of the teacher's answers are right here, by fiat; a quarter are wrong, and in the last
    it says nothing."""
    asked = inputs.questions(planning.dataset("train", {"source": "facts:train", **FACTS}))
    said = {
        q.id: q.answers[0][0] if number % 2 else "" if number % 4 else "nonsense"
        for number, q in enumerate(asked)
    }

    def answer(
        model, tokenizer, built, length_ratio=1, gold=False, shared=False, progress=iter, work=None
    ):
        asked = [branch.question.id for prompt in built for branch in prompt.branches]
        return [
            generate.Answer(
                q, said.get(q, ""), 1.0, 0.0, 1, torch.zeros(1, model.config.hidden_size)
            )
            for q in asked
        ]

    monkeypatch.setattr(supervision.generate, "answer", answer)
    plan = planned(raw, targets=targets, sizes=[2], from_base=[], eval_prompts=["zero-shot"])
    store = Store(tmp_path)
    study.complete(plan, store)
    arms = students(plan)
    student, control = (
        arms["student", "fine-tuned", "mini-2"],
        arms["control", "fine-tuned", "mini-2"],
    )
    taught, gold = (
        {q.id: q.answers[0][0] for q in inputs.learnt(run, store)} for run in (student, control)
    )
    whole = {q.id: q.answers[0][0] for q in asked}
    assert gold == (
        whole
        if targets == "sequence_kd"
        else {key: text for key, text in whole.items() if said[key] == text}
    ), "same questions"
    assert taught == (
        said
        if targets == "sequence_kd"
        else {key: text for key, text in said.items() if text == whole[key]}
    )
    if targets == "sequence_kd":
        net, words = inputs.load(store, student)
        silent = [
            b
            for p in inputs.prompted(
                student, "train", words, net.config, learnt=inputs.learnt(student, store)
            )
            for b in p.branches
        ]
        assert {tuple(b.target) for b in silent if said[b.question.id] == ""} == {
            (words.eos_token_id,)
        }, "nothing but the end"
    assert dict(plan.trained)[student]["targets"] == targets


def test_gold_answers_that_are_withheld_are_learnt_by_no_model_and_the_teachers_stand_for_them(
    raw, tmp_path, monkeypatch
):
    known = {"source": "facts:train", **FACTS, "labelled_paragraphs": 1}
    source = inputs.loaded(planning.dataset("train", known))
    asked, labelled = source.questions, {q.id for q in source.labelled}
    assert len({q.context for q in source.labelled}) == 1 and {
        source.paragraphs[name] for name in labelled
    } == {0}

    def answer(
        model, tokenizer, built, length_ratio=1, gold=False, shared=False, progress=iter, work=None
    ):
        asked = [branch.question.id for prompt in built for branch in prompt.branches]
        return [
            generate.Answer(
                q, f"said of {q}", 1.0, 0.0, 1, torch.zeros(1, model.config.hidden_size)
            )
            for q in asked
        ]

    monkeypatch.setattr(supervision.generate, "answer", answer)
    plan = planned(
        raw,
        train=known,
        targets="gold, sequence_kd where withheld",
        sizes=[2],
        from_base=[],
    )
    store = Store(tmp_path)
    study.complete(plan, store)
    arms = students(plan)
    taught, control, teacher = (
        {q.id: q.answers[0][0] for q in inputs.learnt(arms[arm], store)}
        for arm in (
            ("student", "fine-tuned", "mini-2"),
            ("control", "fine-tuned", "mini-2"),
            ("teacher", "base", ""),
        )
    )
    gold = {q.id: q.answers[0][0] for q in asked if q.id in labelled}
    assert control == teacher == gold
    assert taught == gold | {q.id: f"said of {q.id}" for q in asked if q.id not in labelled}
    net, words = inputs.load(store, arms["control", "fine-tuned", "mini-2"])
    shown = [
        p
        for run in plan.runs
        if run.kind == "answers"
        for p in inputs.prompted(run, "test", words, net.config)
    ]
    withheld = [q.context for q in asked if q.id not in labelled]
    read = [
        words.decode(p.prefix)
        for p in shown
        if any(b.question.article not in {q.article for q in asked} for b in p.branches)
    ]
    assert read and not any(context in text for context in withheld for text in read), (
        "demonstrations are of labelled paragraphs"
    )


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
    served = teachers.StoredStates(
        store.path(student.needs["states"]).glob("states-*.safetensors"), "all"
    )
    net, words = inputs.load(store, student.needs["teacher"])
    row = inputs.rows(student, store, words, net)[0]
    assert served(row).shape == (len(row.ids), 32)
    assert torch.equal(served(row), teachers.row_states(net.eval(), row))


def test_curves_show_dev_loss_beside_the_score(finished):
    plan, store = finished
    learned = study.curves(plan, store).dropna(subset="dev_f1")
    assert learned.dev_loss.notna().all()
    student = learned[learned.role == "student"]
    assert np.allclose(student.dev_loss, student.dev_forward_kl + 0.5 * student.dev_hidden_mse)


def test_what_changed_after_it_was_planned_is_not_kept_under_the_old_key(
    raw, squad, save, tmp_path, home
):
    """As a file of questions may, or a model's folder, while runs before it are made."""
    shutil.copytree(raw.removeprefix("path:"), tmp_path / "model")
    questions, weights = save(squad), tmp_path / "model" / "config.json"
    for file in (questions, weights):
        plan = planned(
            f"path:{tmp_path / 'model'}",
            sizes=[2],
            from_base=[],
            tests={"near": {"source": f"path:{questions}"}},
        )
        before = file.read_text()
        file.write_text(before + " ")
        with pytest.raises(
            StudyError,
            match=(
                rf"path:{file if file == questions else file.parent} has changed since .*: run"
                r" again"
            ),
        ):
            study.complete(plan, Store())
        file.write_text(before)
        assert not [
            run
            for run in plan.runs
            if run.kind == ("answers" if file == questions else "teacher") and Store().result(run)
        ]


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
    assert rows.groupby(["role", "teacher", "train_prompt", "eval_prompt"]).ngroups == 5 * 2
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


def test_costs_are_measured_beside_the_teacher_s_and_joined_with_scores(finished):
    plan, store = finished
    rows = study.rows(plan, store)
    costs = study.timing(plan, rows, store)
    students = costs[costs.role != "teacher"]
    assert (
        len(costs) == 7
        and students.planned.nunique() == 2
        and (costs[study.MEASURED] > 0).all(axis=None)
    )
    (teacher,) = costs[costs.role == "teacher"].itertuples()
    assert (
        (costs.time_low <= costs.time).all()
        and (costs.time <= costs.time_high).all()
        and students.time_low.min() > 0
    )
    assert teacher.time == teacher.time_high == 100 and teacher.milliseconds == pytest.approx(
        students.teacher_milliseconds.median()
    )
    by_name = costs.set_index(["role", "init", "student"])
    run = next(run for run, called in plan.trained if called["student"] == "mini-2")
    net, _ = loading.load_folder(store.path(run, "model"))
    weights, deeper = (
        by_name.memory["student", "fine-tuned", name] for name in ("mini-2", "mini-3")
    )
    assert weights > 4e-6 * parts.parameters(net)["total"] and weights < deeper < teacher.memory
    assert by_name.disk["student", "fine-tuned", "mini-2"] > 4e-6 * parts.parameters(net)["total"]
    own = rows[
        (rows.role == "student")
        & (rows.init == "fine-tuned")
        & (rows.student == "mini-2")
        & (rows.eval_prompt == "zero-shot")
    ]
    measured = {called["student"]: store.key(run)[:12] for run, called in plan.costs}
    (answered,) = own.run.unique()
    assert by_name.runs["student", "fine-tuned", "mini-2"].split() == sorted(
        [measured["mini-2"], answered[:12]]
    )
    assert set(teacher.runs.split()) > set(measured.values())
    assert by_name.f1["student", "fine-tuned", "mini-2"] == pytest.approx(100 * own.f1.mean())


def _model(called):
    """What a model is in the study, and who taught it or what it teaches as."""
    return called["role"], called["teacher"]


def test_what_is_answered_so_far_of_a_choice_or_of_prompting_can_be_shown(raw, tmp_path):
    """Teachers and whatever else comes first in the plan: nothing is compared, and nothing
    fails."""
    modes = ["zero-shot", "one-shot"]
    for plan, last in (
        (chosen(raw), ("teacher", "base")),
        (prompted(raw), ("student", "fine-tuned")),
    ):
        store, models = Store(tmp_path), [_model(one.called) for one in plan.asked]
        there = plan.asked[: models.index(last) + 1]
        for run in planning.each_run(
            run for one in there for run in (one.answers, one.loyalty) if run is not None
        ):
            if store.result(run) is None:
                store.complete(run, kinds.make(store, Progress()))
        rows, curves = study.rows(plan, store), study.curves(plan, store)
        kept, seeds = retention.compare(rows), retention.by_seed(rows)
        if last == ("teacher", "base"):
            gained, scores = (
                contrasts.contrasts(rows, "fine-tuned"),
                teacher_vs_student.compare(rows),
            )
            texts = summary.teacher_choice(
                kept, gained, scores, "zero-shot", origin.of(plan, study.origins(plan, store))
            )
            drawn = figures.teacher_choice(kept, seeds, scores, curves)
        else:
            worth, traits = (
                prompting.prompting(rows, modes, modes),
                prompting.by_trait(rows, modes),
            )
            texts = summary.prompting_mode(
                kept, worth, traits, modes, origin.of(plan, study.origins(plan, store))
            )
            drawn = figures.prompting_mode(kept, seeds, traits)
        study.export(tmp_path / last[0], rows, {"learning": curves}, texts, drawn)
        assert "answered yet." in texts["conclusion"] and len(drawn) in (1, 2)
        assert (
            figures.show(drawn, tmp_path / last[0], "traits").data
            == "There is nothing to draw yet."
        )


def exported(plan, store, folder):
    rows, learned = study.rows(plan, store, folder), study.curves(plan, store, folder)
    kept = retention.compare(rows)
    exported = {"learning": learned, "runs": study.origins(plan, store, folder)}
    exported |= {
        "timing": study.timing(plan, rows, store, folder),
        "seeds": retention.by_seed(rows),
    }
    study.export(
        folder,
        rows,
        exported,
        {"table": tables.table(kept)},
        figures.capacity_gap(
            kept,
            retention.by_seed(rows),
            cost.pareto(exported["timing"]),
            teacher_sizes.sweep(rows),
            learned,
            "zero-shot",
        ),
    )
    return rows, learned


def test_what_was_exported_is_shown_without_a_store_and_changed_runs_are_not(
    finished, raw, tmp_path, home
):
    plan, store = finished
    rows, learned = exported(plan, store, tmp_path / "shown")
    written = {file.name: file.read_bytes() for file in (tmp_path / "shown").iterdir()}
    assert study.lacking(tmp_path / "shown") and not home.exists()
    assert not study.lacking(tmp_path / "nothing")
    states = study.states(plan, tmp_path / "shown", Store(tmp_path / "empty"))
    assert [run for run, _, _ in states] == plan.runs and {state for _, state, _ in states} == {
        "exported"
    }
    assert {state for _, state, _ in study.states(plan, tmp_path / "shown", store)} == {"done"}
    again = exported(plan, Store(tmp_path / "empty"), tmp_path / "shown")
    for one, other in zip((rows, learned), again, strict=True):
        pd.testing.assert_frame_equal(one, other[one.columns], check_dtype=False)
    assert [
        name
        for name, content in written.items()
        if (tmp_path / "shown" / name).read_bytes() != content
    ] == []
    other = planned(raw, stages=stages(reverse_kl=1.0))
    found = study.rows(other, Store(tmp_path / "empty"), tmp_path / "shown")
    assert set(found.role) == {
        "teacher",
        "control",
    }, "students of another objective are none of those that were exported"


def test_rows_of_other_runs_are_kept_when_some_are_exported(finished, raw, tmp_path):
    plan, store = finished
    rows, _ = exported(plan, store, tmp_path / "shown")
    fewer = planned(raw, stages=stages(forward_kl=1.0, hidden_mse=0.5), sizes=[3], from_base=[])
    shown, _ = exported(fewer, store, tmp_path / "shown")
    assert set(shown.student) == {"", "mini-3"}
    assert len(pd.read_parquet(tmp_path / "shown" / "rows.parquet")) == len(rows)
    everything, _ = exported(plan, Store(tmp_path / "empty"), tmp_path / "shown")
    assert len(everything) == len(rows)


def test_rows_are_exported_as_soon_as_their_run_is_done(raw, tmp_path, monkeypatch):
    plan, store, folder = (
        planned(raw, sizes=[3], from_base=[]),
        Store(tmp_path / "home"),
        tmp_path / "shown",
    )
    made = kinds.make

    def stopped(*given):
        def make(run, into):
            if run is plan.asked[3].loyalty:
                raise KeyboardInterrupt
            return make_all(run, into)

        make_all = made(*given)
        return make

    monkeypatch.setattr(kinds, "make", stopped)
    with pytest.raises(KeyboardInterrupt):
        study.complete(plan, store, folder)
    assert set(exports.exported(folder, "rows.parquet")) == {
        one.planned for one in plan.asked[:3]
    } and not study.lacking(tmp_path)
    assert len(exports.exported(folder, "learning.csv")) == 2, "the teacher's and the student's"
    monkeypatch.undo()
    study.complete(plan, store, folder)
    rows, origins = study.rows(plan, store), study.origins(plan, store)
    assert not (folder / "rows.parquet").exists()
    study.export(folder, rows[rows.planned == plan.asked[0].planned], {}, {}, {})
    shown = (
        pd.read_parquet(folder / "rows.parquet")
        .set_index(["planned", "question"])
        .loc[rows.set_index(["planned", "question"]).index]
    )
    pd.testing.assert_frame_equal(shown.reset_index()[rows.columns], rows)
    answered = [run.planned for one in plan.asked for run in one.answers.ancestry()]
    assert set(answered) <= set(pd.read_csv(folder / "runs.csv").planned) <= set(origins.planned)
    assert {file.name for file in folder.iterdir()} == {
        *exports.KEPT,
        "results.csv",
        exports.DIGESTS,
    } - {"timing.csv"}


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
        study.showable(other, tmp_path / "prompting_mode")
        and not (tmp_path / "prompting_mode").exists()
    )
    assert set(study.origins(other, nothing, tmp_path / "prompting_mode").kind) >= {
        "teacher",
        "answers",
        "student",
        "loyalty",
    }


def test_results_of_other_weights_are_not_mixed_with_those_of_the_store(finished, tmp_path):
    plan, store = finished
    exported(plan, store, tmp_path / "shown")
    teacher = next(run for run, called in plan.trained if called["role"] == "teacher")
    file = tmp_path / "shown" / "runs.csv"
    file.write_text(file.read_text().replace(store.result(teacher)["digest"], "0" * 64))
    (tmp_path / "shown" / exports.DIGESTS).unlink()
    for verb in (study.complete, study.rows):
        with pytest.raises(
            StudyError,
            match=r"has results of another mini s0 teacher than .*: move that folder away",
        ):
            verb(plan, store, tmp_path / "shown")
        with pytest.raises(StudyError, match="move that folder away"):
            verb(plan, store, tmp_path / "beside")
    assert len(study.rows(plan, Store(tmp_path / "empty"), tmp_path / "shown"))


def test_what_was_made_with_earlier_versions_is_shown_and_marked(
    finished, raw, tmp_path, monkeypatch
):
    """A module that makes students and teachers is of another version today; what was exported is
    shown, and replaced when it is made."""
    plan, store = finished
    rows, _ = exported(plan, store, tmp_path / "shown")
    before = versions.VERSIONS["training"]
    for recipe, how in (
        (before, ""),
        (before + 1, f"made with training {before}, today {before + 1}"),
    ):
        monkeypatch.setitem(versions.VERSIONS, "training", recipe)
        today = planned(raw, stages=stages(forward_kl=1.0, hidden_mse=0.5))
        for place in (Store(tmp_path / "empty"), store):
            pd.testing.assert_frame_equal(
                study.rows(today, place, tmp_path / "shown"), rows, check_dtype=False
            )
        states = {
            state: why
            for _, state, why in study.states(today, tmp_path / "shown", Store(tmp_path / "empty"))
        }
        assert states == {"exported": how} and study.superseded(today, tmp_path / "shown") == bool(
            how
        )
        made = study.origins(today, Store(tmp_path / "empty"), tmp_path / "shown")
        assert set(study.outdated(today, made).values()) == ({how} if how else set())
        texts = origin.of(today, made).marked({"table": "| a |\n"})
        assert texts["table"].startswith("| a |\n") and (texts["table"] == "| a |\n") == (not how)
        assert texts["table"].count(f"{how}: ") == bool(how) and all(
            run.label in texts["table"] for run, _ in today.trained if how
        )


def test_what_is_made_anew_replaces_what_earlier_versions_made(raw, tmp_path, monkeypatch):
    few = dict(sizes=[3], from_base=[], eval_prompts=["zero-shot"])
    plan, folder = planned(raw, **few), tmp_path / "shown"
    study.complete(plan, Store(tmp_path / "before"), folder)
    exported(plan, Store(tmp_path / "before"), folder)
    monkeypatch.setitem(versions.VERSIONS, "training", versions.VERSIONS["training"] + 1)
    today, store = planned(raw, **few), Store(tmp_path / "after")
    for run in today.runs:  # of other weights, by another version
        run.parameters.update({"lr": 2e-3} if "lr" in run.parameters else {})
    assert [run.planned for run in today.runs] == [run.planned for run in plan.runs], (
        "remembered: the same was asked for"
    )
    study.complete(today, store, folder)
    rows, _ = exported(today, store, folder)
    assert (
        set(pd.read_parquet(folder / "rows.parquet").run)
        == set(rows.run)
        == {store.key(one.answers) for one in today.asked}
    )
    made = exports.read(folder / "runs.csv")
    assert len(made) == len(plan.runs) and not study.outdated(today, made)


def test_a_plan_with_nothing_of_what_a_folder_shows_is_refused(finished, raw, tmp_path):
    """Before anything is computed, and before anything is written."""
    plan, store = finished
    exported(plan, store, tmp_path / "shown")
    written = {file.name: file.read_bytes() for file in (tmp_path / "shown").iterdir()}
    other, nothing = (
        planned(raw, families={"other": raw}, sizes=[3], from_base=[]),
        Store(tmp_path / "empty"),
    )
    said = (
        rf"{tmp_path / 'shown'} shows other models and test sets, none of those of this plan: give"
        r" the plan a `profile` of its own\."
    )
    with pytest.raises(StudyError, match=said):
        study.complete(other, nothing, tmp_path / "shown")
    assert not nothing.root.exists()
    with pytest.raises(StudyError, match=said):
        study.export(tmp_path / "shown", study.rows(plan, store).assign(family="other"), {}, {}, {})
    assert {file.name: file.read_bytes() for file in (tmp_path / "shown").iterdir()} == written


def test_figures_of_somebody_s_own_stay(finished, tmp_path):
    plan, store = finished
    exported(plan, store, tmp_path / "shown")
    own = {f"my_plot.{ending}": f"my {ending}" for ending in ("svg", "png", "csv")}
    for name, text in own.items():
        (tmp_path / "shown" / name).write_text(text)
    study.export(tmp_path / "shown", study.rows(plan, store), {}, {}, {})
    left = {file.name for file in (tmp_path / "shown").iterdir()}
    assert left == {
        *own,
        *exports.KEPT,
        "results.csv",
        "seeds.csv",
        "table.md",
        exports.DIGESTS,
    }, "all figures of the study are gone"
    assert {name: (tmp_path / "shown" / name).read_text() for name in own} == own


def test_what_models_answer_before_any_training_is_shown_before_there_is_a_teacher(raw, tmp_path):
    plan, store, folder = (
        planned(raw, base_prompts=["zero-shot"]),
        Store(tmp_path),
        tmp_path / "p" / "capacity_gap",
    )
    for each in plan.asked:
        if each.called["role"] == "base":
            store.complete(each.answers, kinds.make(store, Progress()))
    rows = study.rows(plan, store, folder)
    kept, gained, shipped = (
        retention.compare(rows),
        contrasts.contrasts(rows),
        retention.bases(rows),
    )
    costs, sweep = cost.pareto(study.timing(plan, rows, store)), teacher_sizes.sweep(rows)
    texts = summary.capacity_gap(
        kept,
        gained,
        costs,
        teacher_sizes.law(rows),
        shipped,
        "zero-shot",
        origin.of(plan, study.origins(plan, store)),
    )
    curves = study.curves(plan, store)
    drawn = figures.capacity_gap(kept, retention.by_seed(rows), costs, sweep, curves, "zero-shot")
    study.export(folder, rows, {"bases": shipped, "learning": curves}, texts, drawn)
    assert set(rows.role) == {"base"} and kept.empty and not drawn
    (line,) = exports.read(folder / "bases.csv").to_dict("records")
    assert (
        line["f1"] == pytest.approx(100 * rows.f1.mean()) and line["n"] == rows.question.nunique()
    )
    assert (folder / "answer.md").read_text() == "Nothing to compare was answered yet.\n"
    assert f"{rows.parameters_total.iloc[0]:,}" in (folder / "bases.md").read_text()
