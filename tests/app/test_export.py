"""A model to take away answers alone as it does in the study, and says what it is."""

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi
from miniatures import FAMILIES, model, planned, tokenizer

from studylib.app import cli, export, study
from studylib.core import filesystem
from studylib.core.errors import StudyError
from studylib.data import prompts, template
from studylib.data import squad as data_squad
from studylib.evaluation.lm_eval import squad_study
from studylib.models import loading
from studylib.runs import inputs
from studylib.store import run as store_run
from studylib.store import store as store_store

ALONE = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_num_threads(2)
folder, asked = sys.argv[1], json.load(open(sys.argv[2]))
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
said = []
for parts in asked:
    ids = sum((tokenizer(part, add_special_tokens=False)["input_ids"] for part in parts), [])
    out = model.generate(torch.tensor([ids]))[0, len(ids):]
    said.append(tokenizer.decode(out, skip_special_tokens=True).strip().split("\\n")[0].strip())
assert not any(name.startswith("studylib") for name in sys.modules)
print(json.dumps(said))
"""


def alone(folder: Path, questions: list, work: Path) -> list[str]:
    """What a folder answers where the study is not at hand."""
    segments = template.plain(None)
    (work / "asked.json").write_text(
        json.dumps([[segments.prefix(q.context), segments.given(q)] for q in questions])
    )
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder), str(work / "asked.json")],
        capture_output=True,
        text=True,
        cwd=work,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=() if name == "llama" else pytest.mark.slow) for name in FAMILIES
    ],
)
def miniature(request, tmp_path_factory):
    """A miniature study of an architecture: its plan and store."""
    folder = tmp_path_factory.mktemp(request.param)
    loading.save(model(request.param), tokenizer(), folder)
    store = store_store.Store(tmp_path_factory.mktemp("home"))
    plan = planned(
        f"path:{folder}",
        sizes=[3],
        from_base=[],
        eval_prompts=["zero-shot"],
        tests={"near": {"source": "facts:test", "paragraphs": 12, "facts": 2}},
    )
    study.complete(plan, store)
    return plan, store


@pytest.fixture
def there(miniature, monkeypatch):
    """The same as the user's store: the plan, and the key of its student."""
    plan, store = miniature
    monkeypatch.setenv("STUDY_HOME", str(store.root.parent))
    student = next(run for run, called in plan.trained if called["role"] == "student")
    return plan, store, student


@pytest.mark.slow
def test_a_folder_alone_answers_as_the_study_does(there, tmp_path):
    plan, store, student = there
    assert cli.main(["export", store.key(student), str(tmp_path / "taken")]) == 0
    answered = next(
        asked.answers for asked in plan.asked if asked.answers.needs["model"] is student
    )
    answers = json.loads(store.path(answered, "answers.json").read_text())
    questions = inputs.questions(plan.tests[0])
    assert alone(tmp_path / "taken", questions, tmp_path) == [
        answers[q.id]["text"] for q in questions
    ]


@pytest.mark.slow
def test_the_card_says_what_it_is(there, tmp_path):
    plan, store, student = there
    card = (export.export(store.key(student), tmp_path / "taken") / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["pipeline_tag"] == "text-generation" and "base_model" not in head
    rows = study.rows(plan, store)
    student_rows = rows[rows.role == "student"]
    assert (
        f"| near | zero-shot | {len(student_rows)} | {student_rows.article.nunique()} |"
        f" {100 * student_rows.exact_match.mean():.1f}" in card
    )
    (result,) = head["model-index"][0]["results"]
    assert [metric["value"] for metric in result["metrics"]] == [
        round(100 * student_rows[name].mean(), 1) for name in ("exact_match", "f1")
    ]
    counts = store.result(student)["facts"]["parameters"]
    assert f"{counts['total']:,} parameters" in card and "fewer than its teacher's" in card
    assert (
        f"path:{plan.runs[0].needs['base'].value.removeprefix('path:')}`: unknown" in card
        and "`facts:train`: made by the study" in card
    )
    code = card.split("```python\n")[1].split("```")[0]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_repeated_questions_count_once_on_the_card(there, monkeypatch):
    plan, store, student = there
    asked = len(inputs.questions(plan.tests[0]))
    monkeypatch.setattr(
        data_squad.Loaded,
        "repeats",
        property(lambda self: frozenset(q.id for q in self.questions[1:])),
    )
    (score,) = export.scores(store.folder(student), store)
    assert asked > 1 and (score.n, score.articles) == (1, 1)


def test_what_cannot_be_exported_is_refused_and_nothing_is_left(there, tmp_path, capsys):
    plan, store, student = there
    answered = next(run for run in plan.runs if run.kind == "answers")
    assert cli.main(["export", store.key(answered), str(tmp_path / "a")]) == 2
    assert (
        "is of kind answers, which is no model: only teacher and student can be exported"
        in capsys.readouterr().err
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert cli.main(["export", store.key(student), str(tmp_path / "full")]) == 2
    assert "is there already: name a folder that is not, or an empty one" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    with contextlib.chdir(tmp_path / "empty"):
        assert cli.main(["export", store.key(student), "."]) == 2
    assert "name a folder that is not, or an empty one" in capsys.readouterr().err
    (tmp_path / "empty").rmdir()
    assert cli.main(["export", "0000", str(tmp_path / "b")]) == 2
    weights = store.folder(student) / "model" / "config.json"
    kept = weights.read_text()
    weights.write_text(kept + " ")
    try:
        assert cli.main(["export", store.key(student), str(tmp_path / "c")]) == 2
        assert "is not what the run stored" in capsys.readouterr().err
    finally:
        weights.write_text(kept)
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


@pytest.fixture
def answered(raw, squad, tmp_path, monkeypatch):
    """A student that was asked a file of one's own, whose test set has a colon in its name: its
    key, the file, the plan and the store."""
    squad["data"][0]["paragraphs"][0]["qas"][0]["answers"] *= 2
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(squad))
    monkeypatch.setenv("STUDY_HOME", str(tmp_path / "home"))
    tests = {"a: b": {"source": f"path:{file}"}}
    plan, store = (
        planned(raw, sizes=[2], from_base=[], eval_prompts=["zero-shot"], tests=tests),
        store_store.Store(),
    )
    study.complete(plan, store)
    student = next(run for run, called in plan.trained if called["role"] == "student")
    return store.key(student), file, plan, store


@pytest.mark.slow
def test_a_test_set_that_was_changed_since_is_refused(answered, squad, tmp_path, capsys):
    """Its answers would be scored by other gold answers than those of the questions that were
    asked."""
    key, file, plan, store = answered
    asked, before = squad["data"][0]["paragraphs"][0], file.read_text()
    answers = next(
        json.loads(store.path(entry.answers, "answers.json").read_text())
        for entry in plan.asked
        if entry.teacher
    )
    right = [item | {"question": "Another?"} for item in asked["qas"]]
    more = [
        *asked["qas"],
        {"id": "q3", "question": "Who?", "answers": [{"text": "Kamo", "answer_start": 0}]},
    ]
    assert set(answers) == {item["id"] for item in right}
    for number, qas in enumerate((right, more)):
        file.write_text(
            json.dumps({"data": [{"title": "Kamo", "paragraphs": [asked | {"qas": qas}]}]})
        )
        assert cli.main(["export", key, str(tmp_path / f"taken{number}")]) == 2
        message = capsys.readouterr().err
        assert (
            f"path:{file} is not what the model was asked (digest differs): restore it, or delete "
            in message
            and "answers" in message
        )
        assert not (tmp_path / f"taken{number}").exists()
    file.write_text(before)
    card = (export.export(key, tmp_path / "taken") / "README.md").read_text()
    assert "| a: b | zero-shot | 2 | 1 | " in card


@pytest.mark.slow
def test_a_test_set_that_is_gone_is_missed_only_where_it_was_answered(answered, tmp_path, capsys):
    key, file, plan, store = answered
    file.unlink()
    assert cli.main(["export", key, str(tmp_path / "gone")]) == 2
    assert f"There is no file {file}" in capsys.readouterr().err
    for entry in plan.asked:
        shutil.rmtree(store.folder(entry.answers))
    card = (export.export(key, tmp_path / "bare") / "README.md").read_text()
    assert "No test set was answered yet." in card


@pytest.mark.slow
def test_nothing_is_kept_of_a_teacher_that_was_made_anew(answered, tmp_path):
    """Its key is the same, the model another one: neither its old answers nor its new ones are
    those of the student's teacher."""
    key, _, plan, store = answered
    titles = [set(scored.scores) for scored in export.scores(store.find(key), store)]
    assert all(store.is_current(store.folder(run)) for run in plan.runs)
    folder = store.folder(plan.trained[0][0])
    teacher, student = folder.name, store.find(key)
    filesystem.write_sealed(folder / "result.json", store.finished(folder) | {"digest": "0" * 64})
    assert store.is_current(folder) and not store.is_current(student)
    assert list(export.scores(folder, store)) == [], (
        f"the answers of {teacher} were the other model's"
    )
    assert [set(scored.scores) for scored in export.scores(student, store)] == [
        title - {"retention_f1"} for title in titles
    ]


def test_a_push_brings_the_folder_and_its_failure_tells_no_secret(tmp_path, monkeypatch):
    brought = []
    monkeypatch.setattr(
        HfApi,
        "create_repo",
        lambda self, name, private, exist_ok: (
            brought.append((name, private)) or f"https://hub/{name}"
        ),
    )
    monkeypatch.setattr(
        HfApi,
        "upload_folder",
        lambda self, repo_id, folder_path: brought.append((repo_id, folder_path)),
    )
    assert export.push(tmp_path, "me/student") == "https://hub/me/student"
    assert brought == [("me/student", True), ("me/student", tmp_path)]

    def refuse(*_: object, **__: object) -> None:
        raise OSError("401 with Bearer hf_secret")

    monkeypatch.setattr(HfApi, "create_repo", refuse)
    with pytest.raises(
        StudyError, match=r"could not be uploaded to me/student \(OSError\).*hf upload"
    ) as error:
        export.push(tmp_path, "me/student")
    assert "hf_secret" not in str(error.value) and error.value.__suppress_context__


@pytest.mark.parametrize(
    ("reference", "licence"),
    [
        ("hub:Qwen/Qwen2.5-3B", "other"),
        ("hub:Qwen/Qwen2.5-7B@" + "0" * 40, "apache-2.0"),
        ("archive:bigbench==1.0.0/squaddev_v1.1.json", "cc-by-sa-4.0"),
        ("archive:bigbench==1.0.0/nyt_v1.0.json", "cc-by-4.0"),
        ("path:mine", "unknown: ask whoever published it"),
    ],
)
def test_licences_are_those_of_the_publishers_or_unknown(reference, licence):
    assert export.licence(reference) == licence


def test_the_harness_is_asked_in_the_studys_prompt():
    row = {
        "id": "1",
        "context": "Ka is Bo.",
        "question": " What is Ka? ",
        "answers": {"text": ["Bo", "the Bo"], "answer_start": [6, 6]},
    }
    (asked,) = prompts.build(
        [data_squad.Question("1", "", row["context"], row["question"], (("Bo", 6),))],
        tokenizer(),
        mode="zero-shot",
    )
    assert tokenizer().decode(asked.prefix + asked.branches[0].given) == squad_study.prompt(row)
    assert squad_study.scores(row, ["\n the  BO!\nWhat else"]) == {"exact_match": 1.0, "f1": 1.0}
    assert squad_study.scores(row, [""]) == {"exact_match": 0.0, "f1": 0.0}


def write_harness_task(questions, folder: Path) -> None:
    """Write the task `own` of the harness on these questions, as the file of the study's own task
    says how."""
    with (folder / "own.jsonl").open("w") as lines:
        for q in questions:
            texts, starts = [text for text, _ in q.answers], [start for _, start in q.answers]
            answers = {"text": texts, "answer_start": starts}
            row = {"id": q.id, "context": q.context, "question": q.question, "answers": answers}
            lines.write(json.dumps(row) + "\n")
    for file in Path(squad_study.__file__).parent.glob("squad_study.*"):
        (folder / file.name).write_text(file.read_text())
    task = {
        "include": "squad_study.yaml",
        "task": "own",
        "dataset_path": "json",
        "test_split": "test",
        "dataset_kwargs": {"data_files": {"test": str(folder / "own.jsonl")}},
    }
    (folder / "own.yaml").write_text(yaml.safe_dump(task))


@pytest.mark.filterwarnings("ignore")
def test_the_harness_agrees_with_the_study(there, tmp_path):
    """On a file of the user's own, by the YAML that the task's own file describes."""
    evaluator = pytest.importorskip("lm_eval", reason="needs lm_eval: pip install -e '.[lm-eval]'")
    from lm_eval.tasks import TaskManager

    plan, store, student = there
    write_harness_task(inputs.questions(plan.tests[0]), tmp_path)
    folder = export.export(store.key(student), tmp_path / "taken")
    how = dict(
        model="hf",
        model_args={"pretrained": str(folder), "dtype": "float32"},
        device="cpu",
        batch_size=4,
        bootstrap_iters=0,
    )
    results = evaluator.simple_evaluate(
        tasks=["own"], task_manager=TaskManager(include_path=str(tmp_path)), **how
    )["results"]["own"]
    rows = study.rows(plan, store)
    ours = rows[rows.role == "student"]
    for name in ("exact_match", "f1"):
        assert 100 * results[f"{name},none"] == pytest.approx(100 * ours[name].mean(), abs=0.1)


@pytest.mark.parametrize("name", ["a: b", "near", "a zero-shot: b zero-shot"])
def test_a_test_set_keeps_its_name_whatever_that_holds(name, tmp_path):
    store = store_store.Store(tmp_path)
    needs = {
        "model": store_run.Run("teacher", {}, label="mini s0: teacher"),
        "test": store_run.Input(name, {"source": "facts:test"}, "00"),
    }
    answered = store_run.Run(
        "answers",
        {"eval_prompt": "zero-shot", "seed": 0},
        needs,
        label=f"mini s0: teacher: {name} zero-shot",
    )
    store.complete(needs["model"], lambda run, folder: {})
    store.complete(answered, lambda run, folder: {})
    assert [
        test_set["title"] for test_set in export._asked(store, {store.key(needs["model"])})
    ] == [name]


def test_a_folder_beside_it_that_is_called_like_a_draft_stays(there, tmp_path):
    _, store, student = there
    (tmp_path / "stud.draft").mkdir()
    (tmp_path / "stud.draft" / "notes.txt").write_text("mine")
    export.export(store.key(student), tmp_path / "stud")
    assert (tmp_path / "stud.draft" / "notes.txt").read_text() == "mine"
    with pytest.raises(StudyError, match="is there already"):
        export.export(store.key(student), tmp_path / "stud.draft")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["stud", "stud.draft"]
