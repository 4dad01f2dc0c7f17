"""Bad input, by the command line: each case is refused in one sentence that names what is at fault,
and nothing is written.

What is odd but sound works, and gives what plain input gives.
"""

import gzip
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from miniatures import model, planned, tokenizer
from patience import PATIENCE
from refusals import SMALL, check_refusal
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from studylib.app import study, time_budget
from studylib.app.cli import main
from studylib.data import squad as data_squad
from studylib.engines import engines
from studylib.models import loading
from studylib.store.run import Input, Run
from studylib.store.store import Store

HUGE = 10**400  # no float holds it
COMMAND = "import sys; from studylib.app.cli import main; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def refused(refused: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Whatever is let in by mistake fails at once instead of being trained on; how long it would
    take is not measured."""
    monkeypatch.setattr(engines, "complete", lambda *_: pytest.fail("let in"))
    monkeypatch.setattr(time_budget, "seconds", lambda *_: 1.0)
    return refused


LONG = ("of 100 MB", "that does not end", "that prints a hundred megabytes", "ten gigabytes")


def cases(table: list[tuple], daily: int = 1000) -> list:
    """The cases of a table by their names; `LONG` ones are too slow for every day, and so are all
    but the first few, the `daily` ones, where each takes a process of its own."""
    return [
        pytest.param(
            *case[1:],
            id=case[0],
            marks=[pytest.mark.faults] * (number >= daily or any(name in case[0] for name in LONG)),
        )
        for number, case in enumerate(table)
    ]


def near(**described: object) -> dict:
    return {"tests": {"near": described}}


def loss(value: object, name: str = "forward_kl") -> dict:
    return {"stages": [{"steps": 1, "losses": {name: value}}]}


PARAMETERS = [
    (
        "a seed of 401 digits",
        {"seeds": [HUGE]},
        "capacity_gap.yaml: seeds must hold finite numbers",
    ),
    ("a seed that is text", {"seeds": ["first"]}, "seeds.0 must be a valid integer, not 'first'"),
    ("a seed below zero", {"seeds": [-1]}, "seeds.0 must be greater than or equal to 0, not -1"),
    ("a seed twice", {"seeds": [0, 0]}, "seeds names 0 twice"),
    (
        "a rate that no float holds",
        {"teacher_lr": HUGE},
        "capacity_gap.yaml: training must hold finite numbers",
    ),
    ("a list for a rate", {"lrs": [[1e-3]]}, "training.lrs.0 must be a valid number, not [0.001]"),
    ("a rate of two", {"lrs": [2.0]}, "training.lrs.0 must be less than 1, not 2.0"),
    ("no size", {"sizes": [None]}, "None is no size of a student"),
    ("a size below zero", {"sizes": [-4]}, "-4 is no size of a student"),
    ("a size in two writings", {"sizes": [4, "4"]}, "sizes names a size twice"),
    (
        "a size larger than the model",
        {"sizes": [99]},
        "the model has 6 layers only: lower its size",
    ),
    (
        "a size of a hundred digits",
        {"sizes": ["9" * 100]},
        "the model has 6 layers only: lower its size",
    ),
    (
        "more neurons than the model has",
        {"sizes": ["4x99999"]},
        "neurons a layer only: lower its size",
    ),
    ("a mapping for a size", {"from_base": [{}]}, "{} is no size of a student"),
    ("no prompting", {"eval_prompts": [None]}, "eval_prompts.0 must be a valid string, not None"),
    (
        "a list for a prompting",
        {"eval_prompts": [["zero-shot"]]},
        "eval_prompts.0 must be a valid string",
    ),
    (
        "a loss of no weight",
        loss("big"),
        "weight of forward_kl must be a valid number",
    ),
    (
        "a loss of infinite weight",
        loss(float("inf")),
        "capacity_gap.yaml: training must hold finite numbers",
    ),
    ("a loss below zero", loss(-1), "weight of forward_kl must be greater than 0, not -1"),
    (
        "a loss by number",
        loss(1.0, name=3),
        "training must hold finite numbers, texts, lists and mappings from text only",
    ),
    ("tokens in a list", loss({"tokens": ["all"]}), "tokens of forward_kl must be"),
    ("stages in words", {"stages": ["long"]}, "training.stages.0 must be a mapping, not 'long'"),
    ("a model of a name that is none", {"families": {5: "tiny:qwen2"}}, "families"),
    ("a model without a name", {"families": {"": "tiny:qwen2"}}, "'' cannot be a name in tables"),
    (
        "a model reference in a list",
        {"families": {"a": ["tiny:qwen2"]}},
        "families.a must be a valid string",
    ),
    (
        "a model reference with NUL",
        {"families": {"a": "path:a\0b"}},
        "path:a\\x00b needs config.json",
    ),
    (
        "a model reference with a line break",
        {"families": {"a": "path:a\nb"}},
        "path:a\\nb needs config.json",
    ),
    ("a model reference of 100,000 letters", {"families": {"a": "z" * 10**5}}, "model 'zzz"),
    (
        "a model folder that no system can name",
        {"families": {"a": "path:" + "x" * 5000}},
        "cannot be read or written (File name too long)",
    ),
    (
        "a model above its folder",
        {"families": {"a": "tiny:../base_models/gpt_neox"}},
        "model 'tiny:../base_models/gpt_neox' is unknown",
    ),
    (
        "a sibling without a name",
        {"siblings": {"gpt_neox": {"": "tiny:qwen2"}}},
        "'' is no size of a student",
    ),
    (
        "siblings in a list",
        {"siblings": {"gpt_neox": ["b"]}},
        "siblings.gpt_neox must be a mapping",
    ),
    ("a set called train", {"tests": {"train": SMALL["train"]}}, "tests names a set 'train'"),
    (
        "a set with a line break",
        {"tests": {"a\nb": SMALL["train"]}},
        "'a\\nb' cannot be a name in tables",
    ),
    ("no set", {"tests": {"near": None}}, "data.tests.near must be a mapping, not None"),
    ("a source in a list", near(source=[1]), "data source [1] is unknown"),
    (
        "a key that is a number",
        {"tests": {"near": {"source": "facts:test", 5: 3}}},
        "capacity_gap.yaml: data must hold",
    ),
    (
        "a count of 401 digits",
        near(source="facts:test", paragraphs=HUGE),
        "capacity_gap.yaml: data must hold finite numbers",
    ),
    (
        "a language in a mapping",
        near(source="facts:test", languages=[{}]),
        "languages must be a list of",
    ),
    (
        "a language without rules",
        near(source="path:README.md", language="fr"),
        "do not score language 'fr'",
    ),
    (
        "a folder for a file",
        {"dev": {"source": "path:tests"}},
        "/tests: the data source path:tests needs it",
    ),
    ("a file below a file", {"dev": {"source": "path:README.md/mine.json"}}, "There is no file"),
    (
        "a file that no system can name",
        {"dev": {"source": "path:" + "x" * 5000}},
        "cannot be read or written (File name too long)",
    ),
    (
        "a training set for a demonstration of itself",
        {"train_prompt": "one-shot", "train": SMALL["train"] | {"paragraphs": 1}},
        "a second article",
    ),
    (
        "no such engine",
        {"engine": "cloud"},
        "machine.engine must be 'local', 'ray' or 'slurm', not 'cloud'",
    ),
    ("no such option", {"engine_options": {"speed": 1}}, "local has no option 'speed'"),
    (
        "no such device",
        {"device": "tpu"},
        "machine.device must be 'auto', 'cpu' or 'cuda', not 'tpu'",
    ),
    ("no thread", {"threads": 0}, "machine.threads must be greater than or equal to 1, not 0"),
    (
        "more threads than can be counted",
        {"threads": 10**12},
        "machine.threads must be less than or equal to 2147483647",
    ),
    (
        "a file that breaks in reading",
        {"dev": {"source": "path:/proc/self/mem"}},
        "/proc/self/mem cannot be read or written (Input/output error)",
    ),
    (
        "a profile above the figures",
        {"profile": "../../figures"},
        "profile '../../figures' names a folder",
    ),
    ("a profile elsewhere", {"profile": "/tmp"}, "profile '/tmp' names a folder"),
    ("a profile without a name", {"profile": ""}, "profile '' names a folder"),
    ("a profile with NUL", {"profile": "a\0b"}, "profile 'a\\x00b' names a folder"),
    ("a word for the notebook alone", {"compute": True}, "capacity_gap.yaml: leave out `compute`"),
]


@pytest.mark.parametrize(("changes", "message"), cases(PARAMETERS))
def test_parameters_that_cannot_be_are_refused(
    changes: dict, message: str, params_file: Callable, refused: Callable
):
    assert message in refused("run", params_file(**changes))


def bomb(innermost: str, around: str) -> bytes:
    """Each of twelve anchors stands ten times for the one before it."""
    lines = [
        f"- &a{number} {around.format(', '.join([f'*a{number - 1}'] * 10))}"
        for number in range(1, 12)
    ]
    return "\n".join(["sizes:", f"- &a0 {innermost}", *lines]).encode()


YAMLS = [
    (
        "a key twice",
        b"sizes: [4]\nprofile: x\nsizes: [3]\n",
        "is no YAML: the key 'sizes' stands twice in",
    ),
    (
        "a key twice further in",
        b"dev: {source: 'facts:dev', source: 'facts:test'}\n",
        "the key 'source' stands twice in",
    ),
    ("UTF-16", "profile: x".encode("utf-16"), "is no YAML: 'utf-8' codec can't decode"),
    ("NUL", b"profile: a\0b\n", "is no YAML: unacceptable character"),
    (
        "a thousand brackets",
        b"sizes: " + b"[" * 1000 + b"]" * 1000,
        "is no YAML: maximum recursion depth exceeded",
    ),
    (
        "a list within itself",
        b"sizes: &a [*a]",
        (
            "sizes must hold finite numbers, texts, lists and mappings from text only (Circular"
            " reference"
        ),
    ),
    ("5,000 digits", b"seeds: " + b"9" * 5000, "is no YAML: Exceeds the limit"),
    (
        "16,000 bits",
        b"training: {teacher_lr: 0x" + b"f" * 4000 + b"}",
        "training must hold finite numbers",
    ),
    (
        "bytes",
        b"sizes: !!binary aGVsbG8=",
        "sizes must hold finite numbers, texts, lists and mappings from text only",
    ),
    (
        "code",
        b"sizes: !!python/object/apply:os.system [x]",
        "is no YAML: could not determine a constructor",
    ),
    ("two documents", b"profile: x\n---\nprofile: y\n", "is no YAML: expected a single document"),
    ("no such day", b"profile: 2020-13-45\n", "is no YAML: month must be in 1..12"),
    (
        "half of a pair of surrogates",
        b'profile: "\\ud800"\n',
        "profile must hold finite numbers, texts",
    ),
    (
        "a name of 100,000 letters",
        b"x" * 10**5 + b": 3\n",
        "is no YAML: mapping values are not allowed here",
    ),
    (
        "anchors that stand for 10¹¹ values",
        bomb("[1]", "[{}]"),
        "is no YAML: it holds more than 10000 values",
    ),
    (
        "anchors that are merged",
        bomb("{a: 1}", "{{<<: [{}]}}"),
        "is no YAML: it holds more than 10000 values",
    ),
    ("a megabyte", b"# " + b"x" * 10**6, "has 1.0 MB: a file of parameters is read up to 0.2 MB"),
    ("a list for a mapping of names", b"- profile\n", "must map parameter names to values"),
]


@pytest.mark.parametrize(("content", "message"), cases(YAMLS))
def test_a_parameter_file_that_is_none_is_refused_by_name(
    content: bytes, message: str, tmp_path: Path, refused: Callable
):
    (path := tmp_path / "capacity_gap.yaml").write_bytes(content)
    sentence = refused("run", str(path))
    assert message in sentence and str(path) in sentence


def first(content: dict) -> dict:
    """The first question of the content."""
    return content["data"][0]["paragraphs"][0]["qas"][0]


def asked(**fields: object) -> Callable[[dict], object]:
    return lambda content: first(content).update(fields)


def answered(text: object, start: object) -> Callable[[dict], object]:
    return asked(answers=[{"text": text, "answer_start": start}])


def paragraph(**fields: object) -> Callable[[dict], object]:
    return lambda content: content["data"][0]["paragraphs"][0].update(fields)


def article(**fields: object) -> Callable[[dict], object]:
    return lambda content: content["data"][0].update(fields)


NOT_THERE, FORM = (
    "question 'q1': the answer 'Tiru' is not in the context at offset",
    "is not in SQuAD format",
)
DAMAGED = [
    ("an offset too early", answered("Tiru", 3), f"{NOT_THERE} 3"),
    ("an offset from the end", answered("Tiru", -22), f"{NOT_THERE} -22"),
    ("an offset of 401 digits", answered("Tiru", HUGE), f"{NOT_THERE} 1000"),
    ("an offset with a point", answered("Tiru", 14.0), f"{NOT_THERE} 14.0"),
    ("an offset in quotes", answered("Tiru", "14"), f"{NOT_THERE} '14'"),
    ("no offset", answered("Tiru", None), f"{NOT_THERE} None"),
    (
        "true for an offset",
        answered("mo", True),
        "question 'q1': the answer 'mo' is not in the context at offset True",
    ),
    ("an offset that is no number", answered("Tiru", float("nan")), f"{NOT_THERE} nan"),
    ("an endless offset", answered("Tiru", float("inf")), f"{NOT_THERE} inf"),
    (
        "an answer in a list",
        answered(["Tiru"], 14),
        "question 'q1': the answer ['Tiru'] is not in the context",
    ),
    (
        "no text for an answer",
        answered(None, 14),
        "question 'q1': the answer None is not in the context",
    ),
    ("an empty answer", answered("", 14), "question 'q1': the answer '' is not in the context"),
    ("an answer of a million letters", answered("x" * 10**6, 0), "question 'q1': the answer 'xxx"),
    ("no answers", asked(answers=[]), "question 'q1' has no answer"),
    (
        "a question that cannot be answered",
        asked(answers=[], is_impossible=True),
        "question 'q1' has no answer",
    ),
    ("answers in a text", asked(answers="Tiru"), FORM),
    ("answers of nothing", asked(answers=None), FORM),
    ("an id twice", asked(id="q2"), "has question 'q2' twice"),
    (
        "an id that is a list",
        asked(id=["q1"]),
        "question ['q1']: id, title, context and question must be text",
    ),
    ("an id with a line break", asked(id="a\nb", answers=[]), "question 'a\\nb' has no answer"),
    (
        "an id that turns the line around",
        asked(id="a\u202eb", answers=[]),
        "question 'a\\u202eb' has no answer",
    ),
    (
        "an id of a million letters",
        asked(id="x" * 10**6, answers=[]),
        "has no answer: give at least one",
    ),
    (
        "a blank question",
        asked(question=" \t"),
        "question 'q1': context and question must not be empty",
    ),
    (
        "half of a pair of surrogates in a question",
        asked(question="\ud800?"),
        "question 'q1': its text has half of a surrogate pair",
    ),
    (
        "half of a pair in an id",
        asked(id="\udfff"),
        "question '\\udfff': its text has half of a surrogate pair",
    ),
    (
        "half of a pair in a title",
        article(title="\ud800"),
        "question 'q1': its text has half of a surrogate pair",
    ),
    ("a context in a list", paragraph(context=["Kamo lives in Tiru."]), FORM),
    ("no context", paragraph(context=None), FORM),
    ("no questions", paragraph(qas=[]), "holds no question"),
    ("questions of nothing", paragraph(qas=None), FORM),
    (
        "a title that is a number",
        article(title=5),
        "question 'q1': id, title, context and question must be text",
    ),
    ("paragraphs in a text", article(paragraphs="none"), FORM),
    ("no title", lambda content: content["data"][0].pop("title"), f"{FORM} (KeyError: 'title')"),
    ("no data", lambda content: content.pop("data"), f"{FORM} (KeyError: 'data')"),
    ("no articles", lambda content: content.update(data=[]), "holds no question"),
    ("a number for data", lambda content: content.update(data=5), FORM),
]


@pytest.mark.parametrize(("damage", "message"), cases(DAMAGED))
def test_a_damaged_squad_file_is_refused_by_name(
    damage: Callable,
    message: str,
    squad: dict,
    save: Callable,
    params_file: Callable,
    refused: Callable,
):
    damage(squad)
    sentence = refused("run", params_file(**near(source=f"path:{save(squad)}")))
    assert message in sentence and str(save(squad)) in sentence


MEGABYTES_100 = 100_000_000
NOT_JSON = "is not JSON in UTF-8 ("
BYTES: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("empty", lambda sound: b"", NOT_JSON),
    ("half of it", lambda sound: sound[: len(sound) // 2], NOT_JSON),
    ("twice", lambda sound: sound + sound, f"{NOT_JSON}Extra data"),
    (
        "Latin-1",
        lambda sound: sound.replace(b"Kamo", b"K\xe4mo"),
        f"{NOT_JSON}'utf-8' codec can't decode",
    ),
    (
        "half of a pair in UTF-8",
        lambda sound: sound.replace(b"Kamo", b"\xed\xa0\x80mo"),
        f"{NOT_JSON}'utf-8' codec can't decode",
    ),
    (
        "UTF-16",
        lambda sound: sound.decode().encode("utf-16"),
        f"{NOT_JSON}'utf-8' codec can't decode",
    ),
    ("a byte order mark", lambda sound: b"\xef\xbb\xbf" + sound, f"{NOT_JSON}Unexpected UTF-8 BOM"),
    ("gzip", gzip.compress, f"{NOT_JSON}'utf-8' codec can't decode"),
    ("NUL bytes", lambda sound: bytes(1000), NOT_JSON),
    (
        "a bare NUL in a text",
        lambda sound: sound.replace(b"Kamo", b"K\0mo"),
        f"{NOT_JSON}Invalid control character",
    ),
    (
        "a bare tab in a text",
        lambda sound: sound.replace(b"Kamo", b"K\tmo"),
        f"{NOT_JSON}Invalid control character",
    ),
    (
        "a key twice",
        lambda sound: sound.replace(b'"title"', b'"title": "x", "title"'),
        f"{NOT_JSON}the key 'title' twice",
    ),
    (
        "an offset of 5,000 digits",
        lambda sound: sound.replace(b"14", b"1" * 5000),
        f"{NOT_JSON}Exceeds the limit",
    ),
    (
        "a million brackets",
        lambda sound: b"[" * 10**6,
        f"{NOT_JSON}maximum recursion depth exceeded",
    ),
    ("100 MB of junk", lambda sound: b"x" * MEGABYTES_100, NOT_JSON),
    (
        "a key of 100 MB",
        lambda sound: b'{"' + b"x" * MEGABYTES_100 + b'": 1}',
        f"{FORM} (KeyError: 'data')",
    ),
    (
        "an id of 100 MB",
        lambda sound: sound.replace(b'"q1"', b'"' + b"x" * MEGABYTES_100 + b'"').replace(
            b"14", b"3"
        ),
        "mend the file",
    ),
]


@pytest.mark.parametrize(("damage", "message"), cases(BYTES))
def test_bytes_that_are_no_squad_file_are_refused_by_name(
    damage: Callable,
    message: str,
    squad: dict,
    tmp_path: Path,
    params_file: Callable,
    refused: Callable,
):
    (path := tmp_path / "mine.json").write_bytes(damage(json.dumps(squad).encode()))
    sentence = refused("run", params_file(**near(source=f"path:{path}")))
    assert message in sentence and str(path) in sentence


LINE = {
    "id": "1",
    "context": "Belu wrote Sado.",
    "question": "Who wrote Sado?",
    "answers": [{"text": "Belu", "answer_start": 0}],
}
SOUND, ROW = json.dumps(LINE), "a row needs id, context, question and answers"


def line(**changes: object) -> str:
    return json.dumps(LINE | changes)


LINES = [
    ("a second line that breaks off", f"{SOUND}\n{SOUND[:40]}", "line 2 is not JSON in UTF-8"),
    ("NUL after the last line", f"{SOUND}\n\n\0\0", "line 3 is not JSON in UTF-8"),
    ("a number", f"{SOUND}\n5", f"line 2: {ROW}"),
    ("null", "null", f"line 1: {ROW}"),
    (
        "no id",
        '{"context": "Belu", "question": "?", "answers": []}',
        f"line 1: {ROW} (KeyError: 'id')",
    ),
    (
        "fewer offsets than answers",
        line(answers={"text": ["Belu"], "answer_start": []}),
        f"line 1: {ROW}",
    ),
    (
        "letters for answers",
        line(answers={"text": "Belu", "answer_start": [0, 1, 2, 3]}),
        f"line 1: {ROW}",
    ),
    ("an id twice", f"{SOUND}\n{SOUND}", "has question '1' twice"),
    ("a context that is a number", line(context=3), f"line 1: {ROW}"),
    ("half of a pair in a context", line(context="\ud800 Belu"), f"line 1: {ROW}"),
    (
        "an offset off",
        f"{SOUND}\n{line(id='2', context='Kamo.')}",
        "question '2': the answer 'Belu' is not in the context at offset 0",
    ),
    ("nothing", "\n \n", "holds no question"),
    (
        "a key twice",
        SOUND.replace('"id"', '"id": "2", "id"'),
        "line 1 is not JSON in UTF-8 (the key 'id' twice",
    ),
    ("a line of 100 MB of junk", f"{SOUND}\n" + "x" * MEGABYTES_100, "line 2 is not JSON in UTF-8"),
]


@pytest.mark.parametrize(("content", "message"), cases(LINES))
def test_damaged_json_lines_are_refused_by_line_or_question(
    content: str, message: str, tmp_path: Path, params_file: Callable, refused: Callable
):
    (path := tmp_path / "mine.jsonl").write_text(content, encoding="utf-8")
    sentence = refused("run", params_file(**near(source=f"path:{path}")))
    assert message in sentence and str(path) in sentence


MLQA_FILE = "dev/dev-context-de-question-de.json"
MLQA = [
    ("no folder", {}, None, f"There is no file {{folder}}/{MLQA_FILE}"),
    ("no such split", {"split": "train"}, "{}", "split must be one of dev, test, not 'train'"),
    ("splits in a list", {"split": ["dev"]}, "{}", "split must be text, not ['dev']"),
    ("no such language", {"context": "fr"}, "{}", "context must be one of en"),
    ("no language of questions", {"question": None}, "{}", "question must be one of en"),
    ("a key of another source", {"part": "dev"}, "{}", "has an unknown key 'part'"),
    (
        "fewer questions than published",
        {},
        "sound",
        f"{MLQA_FILE} holds 2 questions, the official set 512",
    ),
    ("a file that breaks off", {}, "{", f"{MLQA_FILE} is not JSON in UTF-8"),
    ("a file of another form", {}, "[]", f"{MLQA_FILE} is not in SQuAD format"),
]


@pytest.mark.parametrize(("changes", "content", "message"), cases(MLQA))
def test_a_damaged_mlqa_folder_is_refused_by_file_or_key(
    changes: dict,
    content: str | None,
    message: str,
    squad: dict,
    tmp_path: Path,
    params_file: Callable,
    refused: Callable,
):
    folder = tmp_path / "MLQA_V1"
    if content is not None:
        (folder / "dev").mkdir(parents=True)
        (folder / MLQA_FILE).write_text(
            json.dumps(squad) if content == "sound" else content, encoding="utf-8"
        )
    described = {
        "source": f"mlqa:{folder}",
        "split": "dev",
        "context": "de",
        "question": "de",
    } | changes
    assert message.format(folder=folder) in refused("run", params_file(**near(**described)))


def rewritten(file: str, content: str | bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / file).write_bytes(
        content if isinstance(content, bytes) else content.encode()
    )


def without(*files: str) -> Callable[[Path], object]:
    return lambda folder: [(folder / file).unlink() for file in files]


def configured(file: str = "config.json", **changes: object) -> Callable[[Path], object]:
    return lambda folder: (folder / file).write_text(
        json.dumps(json.loads((folder / file).read_text()) | changes)
    )


def weighed(change: Callable[[dict], object]) -> Callable[[Path], None]:
    """Weights that are changed in place."""

    def damage(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


QUERY = "model.layers.0.self_attn.q_proj.weight"


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def halved(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def of_another_architecture(folder: Path) -> None:
    loading.save(
        GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, vocab_size=len(tokenizer()))),
        tokenizer(),
        folder,
    )


def a_shard_short(folder: Path) -> None:
    names = dict.fromkeys(
        load_file(folder / "model.safetensors"), "model-00001-of-00002.safetensors"
    )
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"metadata": {}, "weight_map": names | {QUERY: "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def endless(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("/dev/zero")

    return damage


def holey(name: str) -> Callable[[Path], None]:
    """A file of a gigabyte that takes no room."""

    def damage(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            file.truncate(1 << 30)

    return damage


def doubling(part: str) -> Callable[[Path], None]:
    kind = {"normalizer": "normalizers", "decoder": "decoders"}[part]
    double = {"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}
    return configured("tokenizer.json", **{part: {"type": "Sequence", kind: [double] * 40}})


def of_a_hard_expression(folder: Path) -> None:
    """A regular expression that tries more ways than there is time for, on any sentence."""
    split = {
        "type": "Split",
        "pattern": {"Regex": r"(\w+\s?)+\z"},
        "behavior": "Isolated",
        "invert": False,
    }
    configured("tokenizer.json", pre_tokenizer=split)(folder)


NO_FOLDER, CANNOT = "needs config.json and safetensors weights in it", "cannot be loaded ("
FOLDERS = [
    ("no folder", shutil.rmtree, NO_FOLDER),
    ("no configuration", without("config.json"), NO_FOLDER),
    ("a configuration without weights", without("model.safetensors"), NO_FOLDER),
    ("pickle instead of safetensors", pickled, NO_FOLDER),
    (
        "pickle under the name of safetensors",
        rewritten("model.safetensors", pickle.dumps({"w": 1})),
        CANNOT,
    ),
    ("no tokenizer", without("tokenizer.json", "tokenizer_config.json"), CANNOT),
    ("no words of the tokenizer", without("tokenizer.json"), CANNOT),
    ("no end of sequence", without("tokenizer_config.json"), "has no end-of-sequence token"),
    ("half a tokenizer", rewritten("tokenizer.json", "{"), CANNOT),
    (
        "another vocabulary, of more tokens",
        lambda folder: loading.save(model("llama", vocab_size=300), tokenizer(), folder),
        "its model only 300",
    ),
    ("a configuration that breaks off", rewritten("config.json", "{"), CANNOT),
    ("a configuration in a list", rewritten("config.json", "[]"), CANNOT),
    ("a configuration of nothing", rewritten("config.json", "null"), CANNOT),
    ("a configuration in UTF-16", rewritten("config.json", "{}".encode("utf-16")), CANNOT),
    (
        "a configuration of code",
        configured(model_type="evil", auto_map={"AutoConfig": "evil.E"}),
        CANNOT,
    ),
    ("an architecture in a list", configured(model_type=["llama"]), CANNOT),
    (
        "another architecture",
        of_another_architecture,
        "holds a gpt2 model: known architectures are gpt_neox, llama, qwen2",
    ),
    (
        "layers in words",
        configured(num_hidden_layers="many"),
        "config.json says num_hidden_layers many",
    ),
    (
        "an endless factor",
        configured(rope_parameters={"factor": float("inf")}),
        "config.json says factor inf: it must be a number",
    ),
    (
        "ten million layers",
        configured(num_hidden_layers=10**7),
        "num_hidden_layers 10000000: it must be a whole number from 1 to 1000",
    ),
    (
        "layers below zero",
        configured(num_hidden_layers=-1),
        "config.json says num_hidden_layers -1",
    ),
    (
        "ten million layers further in",
        configured(text_config={"num_hidden_layers": 10**7}),
        "says num_hidden_layers 10000000",
    ),
    ("a width of a million", configured(hidden_size=10**6), "config.json says hidden_size 1000000"),
    (
        "a width of many gigabytes",
        configured(hidden_size=2**17, num_hidden_layers=1000),
        "config.json describes a model of more than",
    ),
    ("true for a vocabulary", configured(vocab_size=True), "config.json says vocab_size True"),
    (
        "a configuration of 10 MB",
        configured(note="x" * 10**7),
        "config.json has 10 MB: files beside the weights are read up to 4 MB",
    ),
    ("a configuration nested 100,000 deep", rewritten("config.json", '{"a":' * 10**5), CANNOT),
    (
        "an index nested 100,000 deep",
        rewritten("model.safetensors.index.json", '{"weight_map":' * 10**5),
        CANNOT,
    ),
    (
        "settings of a tokenizer nested 100,000 deep",
        rewritten("tokenizer_config.json", "[" * 10**5),
        CANNOT,
    ),
    ("a tokenizer nested 100,000 deep", rewritten("tokenizer.json", "[" * 10**5), CANNOT),
    (
        "a pipe",
        lambda folder: os.mkfifo(folder / "vocab.json"),
        "vocab.json is neither a file nor a folder",
    ),
    (
        "a pipe of another name",
        lambda folder: os.mkfifo(folder / "notes"),
        "notes is neither a file nor a folder",
    ),
    (
        "a pipe for weights",
        lambda folder: os.mkfifo(folder / "more.safetensors"),
        "more.safetensors is neither a file nor a folder",
    ),
    (
        "a link to an endless device",
        endless("merges.txt"),
        "merges.txt is neither a file nor a folder",
    ),
    (
        "an endless template",
        endless("additional_chat_templates/a.jinja"),
        "a.jinja is neither a file nor a folder",
    ),
    ("a template of a gigabyte", holey("chat_template.jinja"), "chat_template.jinja has 1074 MB"),
    (
        "a tokenizer that doubles every e, 40 times",
        doubling("normalizer"),
        "its normalizer makes texts 1e+12 times as long",
    ),
    (
        "one that doubles every e of an answer",
        doubling("decoder"),
        "its decoder makes texts 1e+12 times as long",
    ),
    (
        "a tokenizer that gives up on a text",
        of_a_hard_expression,
        "fails on a text (Onig: Regex search error",
    ),
    ("no layers", configured(num_hidden_layers=0), "config.json says num_hidden_layers 0"),
    ("more layers than weights", configured(num_hidden_layers=5), "has no weights model.layers.4."),
    ("no heads", configured(num_attention_heads=0), "config.json says num_attention_heads 0"),
    ("a width that no head divides", configured(hidden_size=33), CANNOT),
    ("a width of other weights", configured(hidden_size=64), CANNOT),
    (
        "a vocabulary of 10¹⁵ words",
        configured(vocab_size=10**15),
        "config.json says vocab_size 1000000000000000",
    ),
    ("an unknown activation", configured(hidden_act="evil"), CANNOT),
    ("an unknown number format", configured(dtype="evil"), CANNOT),
    (
        "room for eight tokens",
        configured(max_position_embeddings=8),
        "not even a piece of its context fits",
    ),
    ("half of the weights", halved, CANNOT),
    ("weights of no bytes", rewritten("model.safetensors", b""), CANNOT),
    ("weights with an endless header", rewritten("model.safetensors", b"\xff" * 8 + b"{}"), CANNOT),
    (
        "a weight less",
        weighed(lambda weights: weights.pop(QUERY)),
        f"has no weights {QUERY}, which its config.json asks for",
    ),
    (
        "a weight of another form",
        weighed(lambda weights: weights.update({QUERY: torch.zeros(4, 32)})),
        CANNOT,
    ),
    (
        "other weights",
        weighed(lambda weights: [weights.clear(), weights.update(x=torch.zeros(1))]),
        "has no weights lm_head.weight",
    ),
    ("a shard less", a_shard_short, CANNOT),
]


TEMPLATES = [
    (
        "that calls the system",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "cannot be used (SecurityError: ",
    ),
    ("that breaks off", "{% for", "cannot be used (TemplateSyntaxError: "),
    ("that is a number", 3, "cannot be used (TypeError: "),
    ("that refuses", "{{ raise_exception('not me') }}", "cannot be used (TemplateError: not me"),
    (
        "that does not end",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "cannot be used (it takes more than 10 seconds of computing",
    ),
    (
        "that prints a hundred megabytes",
        "{{ 'x' * 100000000 }}",
        "cannot be used (ValueError: it prints 100000000 characters",
    ),
    (
        "that prints ten gigabytes",
        "{% for a in range(99999) %}{{ 'x' * 100000 }}{% endfor %}",
        "cannot be used (it takes more than 1024 MB of memory",
    ),
    (
        "that calls itself",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "cannot be used (RecursionError: ",
    ),
    (
        "that prints what is elsewhere in memory each time",
        "{{ messages | map(attribute='content') }}{{ messages[0].content }}",
        "cannot be used (ValueError: it prints an address in memory",
    ),
    ("that shows nothing of it", "plain {{ 3 }}", "does not show what it is given, once"),
    (
        "that shows it twice",
        "{{ messages[0].content }}{{ messages[0].content }}",
        "does not show what it is given, once",
    ),
]


@pytest.mark.parametrize(("template", "message"), cases(TEMPLATES, daily=2))
def test_a_chat_template_that_cannot_be_used_is_refused_by_name(
    template: object,
    message: str,
    sound: Path,
    tmp_path: Path,
    params_file: Callable,
    refused: Callable,
):
    folder = shutil.copytree(sound, tmp_path / "model")
    file = folder / "tokenizer_config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"chat_template": template}),
        encoding="utf-8",
    )
    sentence = refused(
        "run",
        params_file(
            families={"mini": f"path:{folder}"}, sizes=[3], eval_prompts=["chat zero-shot"]
        ),
    )
    assert f"The chat template of {folder} {message}" in sentence


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound model folder to be copied and damaged."""
    loading.save(model("llama"), tokenizer(), folder := tmp_path_factory.mktemp("sound"))
    return folder


@pytest.mark.parametrize(("damage", "message"), cases(FOLDERS))
def test_a_damaged_model_folder_is_refused_by_name(
    damage: Callable,
    message: str,
    sound: Path,
    tmp_path: Path,
    params_file: Callable,
    refused: Callable,
):
    folder = shutil.copytree(sound, tmp_path / "model")
    damage(folder)
    sentence = refused("run", params_file(families={"mini": f"path:{folder}"}, sizes=[3]))
    assert message in sentence and ("question '" in sentence or str(folder) in sentence)


def test_models_of_different_vocabularies_are_refused_before_anything_is_made(
    sound: Path, tmp_path: Path, params_file: Callable, refused: Callable
):
    """As many tokens, but another two of them are one."""
    other = shutil.copytree(sound, tmp_path / "other")
    words = json.loads((other / "tokenizer.json").read_text(encoding="utf-8"))
    known = words["model"]["vocab"]
    first_token, second_token = list(known)[:2]
    known[first_token], known[second_token] = known[second_token], known[first_token]
    (other / "tokenizer.json").write_text(json.dumps(words), encoding="utf-8")
    sentence = refused(
        "run",
        params_file(
            families={"mini": f"path:{sound}"},
            siblings={"mini": {"other": f"path:{other}"}},
            sizes=[3],
        ),
    )
    assert "other" in sentence and "teacher and student have different vocabularies" in sentence


def below_a_file(place: Path) -> Path:
    place.write_text("no folder")
    return place / "home"


def a_file(place: Path) -> Path:
    place.write_text("no folder")
    return place


def a_link_to_itself(place: Path) -> Path:
    place.symlink_to(place)
    return place / "home"


STORES = [
    ("a file", a_file, "File exists|Not a directory"),
    ("a path below a file", below_a_file, "Not a directory"),
    (
        "a path that is no one's to write",
        lambda place: Path("/proc/home"),
        "No such file or directory",
    ),
    (
        "a file system that holds no files",
        lambda place: Path("/sys/home"),
        "Operation not permitted|Permission denied|Read-only file system",
    ),
    ("a name of 300 letters", lambda place: place / ("x" * 300), "File name too long"),
    (
        "a path of 6,000 letters",
        lambda place: place / "/".join(["x" * 200] * 30),
        "File name too long",
    ),
    ("a link to itself", a_link_to_itself, "Too many levels of symbolic links"),
]


@pytest.mark.parametrize(("place", "reasons"), cases(STORES))
def test_a_store_that_cannot_be_written_is_refused_by_its_path(
    place: Callable,
    reasons: str,
    tmp_path: Path,
    params_file: Callable,
    refused: Callable,
    monkeypatch: pytest.MonkeyPatch,
):
    home = place(tmp_path / "there")
    monkeypatch.setenv("STUDY_HOME", str(home))
    sentence = refused("run", params_file())
    assert any(
        f"cannot be read or written ({reason})" in sentence for reason in reasons.split("|")
    ), sentence
    assert str(home)[:200] in sentence and "STUDY_HOME" in sentence


def test_a_store_of_an_unknown_user_is_refused(
    params_file: Callable, refused: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STUDY_HOME", "~no-such-user/home")
    assert "STUDY_HOME ~no-such-user/home names a user who is not known" in refused(
        "run", params_file()
    )


@pytest.mark.parametrize("verb", ["status", "plan", "show", "export"])
def test_other_verbs_refuse_a_store_path_that_cannot_be(
    verb: str, params_file: Callable, refused: Callable, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("STUDY_HOME", "/" + "x" * 300)
    arguments = {"show": ["0123"], "export": ["0123", "/nowhere"]}.get(verb, [params_file()])
    assert "x" * 300 in refused(verb, *arguments)


def listing(path: Path, capsys: pytest.CaptureFixture, params_file: Callable) -> str:
    """What `study data` says of a test set: its size and shifted answers, not its name or
    fingerprint."""
    assert main(["data", params_file(**near(source=f"path:{path}"))]) == 0
    return (
        capsys.readouterr()
        .out.partition("/near (en)")[2]
        .partition("\n")[2]
        .rpartition("fingerprint")[0]
    )


ODD = [
    ("marks from right to left", "\u200f\u202bكامو\u202c يعيش في \u2067تيرو\u2069."),
    ("NUL", "Kamo \0 lives in\0 Tiru."),
    ("signs outside the first plane", "𝒦amo 🙂🏽 lives in 🏝️Tiru."),
    ("an accent of its own", "Cafe\u0301 in Ti\u0301ru."),
    ("ends of lines of other systems", "Kamo\u2028lives\x85in\x0bTiru\r\n."),
    ("a zero-width blank", "Kamo lives in\u200bTiru\ufeff."),
]


@pytest.mark.parametrize("context", cases(ODD))
@pytest.mark.parametrize("ascii_only", [True, False], ids=["escaped", "as it is"])
def test_odd_but_sound_texts_are_kept_as_they_are(
    context: str,
    ascii_only: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    params_file: Callable,
):
    """All that is asked is answered at its offset, whatever a terminal would make of it."""
    spans = [
        (start, end)
        for start in range(len(context))
        for end in (start + 1, start + 3)
        if context[start:end].strip()
    ]
    answers = [{"text": context[start:end], "answer_start": start} for start, end in spans]
    row = {
        "id": context,
        "title": context,
        "context": context,
        "question": context,
        "answers": answers,
    }
    (path := tmp_path / "mine.jsonl").write_text(
        json.dumps(row, ensure_ascii=ascii_only), encoding="utf-8", newline=""
    )
    (question,) = data_squad.load({"source": f"path:{path}"}).questions
    assert (question.id, question.article, question.context, question.question) == (context,) * 4
    assert question.answers == tuple((context[start:end], start) for start, end in spans)
    assert "1 questions; 1 contexts; 1 articles; answer tokens" in listing(
        path, capsys, params_file
    )


@pytest.mark.faults
def test_a_line_of_100_megabytes_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture, params_file: Callable
):
    (plain := tmp_path / "plain.jsonl").write_text(SOUND + "\n" + line(id="2"))
    (long := tmp_path / "long.jsonl").write_text(
        line(note="x" * MEGABYTES_100) + "\n" + line(id="2")
    )
    assert data_squad.load({"source": f"path:{long}"}) == data_squad.load(
        {"source": f"path:{plain}"}
    )
    assert listing(long, capsys, params_file) == listing(plain, capsys, params_file) != ""


def strange(place: Path, name: str) -> Path:
    """A folder of this name, there already."""
    (place / name).mkdir()
    return place / name


def linked(place: Path, name: str) -> Path:
    (place / "elsewhere").mkdir()
    (place / name).symlink_to(place / "elsewhere", target_is_directory=True)
    return place / name


def not_there(place: Path, name: str) -> Path:
    return place / name


PLACES = [
    ("blanks", not_there, "my own  store "),
    ("umlauts", strange, "Grüße aus Köln"),
    ("an accent of its own", strange, "Cafe\u0301"),
    ("signs of shells and patterns", not_there, "a[1]*?'\"$(x);&{b}"),
    ("a symbolic link", linked, "link"),
    ("a line break", strange, "a\nb"),
    ("bytes that are no UTF-8", strange, "a\udcffb"),
    ("200 letters", not_there, "x" * 200),
]


@pytest.mark.parametrize(("make", "name"), cases(PLACES))
def test_a_store_may_lie_anywhere(
    make: Callable,
    name: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
):
    """The same key, digest and status, and found again by its key."""

    def kept() -> tuple[str, dict, str]:
        run = Run(
            "number",
            {"value": 3},
            {"set": Input("a set", {"source": "facts:dev"}, "0123456789abcdef")},
            label="the number",
        )
        store = Store()
        result = store.complete(
            run, lambda run, folder: (folder / "three.txt").write_text("3") and {"three": 3}
        )
        assert store.path(run, "three.txt").read_text() == "3" and store.state(run) == ("done", "")
        assert main(["show", store.key(run)]) == 0
        return (
            store.key(run),
            {name: result[name] for name in ("digest", "files", "facts")},
            capsys.readouterr().out.partition("builds on")[2],
        )

    plain = kept()
    monkeypatch.setenv("STUDY_HOME", str(make(tmp_path, name)))
    assert kept() == plain
    assert list((tmp_path / name).glob("runs/number/*/result.json"))


@pytest.mark.faults
def test_a_place_whose_name_is_no_text_is_told_as_far_as_it_is(tmp_path: Path):
    place = os.fsencode(tmp_path) + b"/a\xffb"
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "doctor"],
        capture_output=True,
        env=os.environb | {b"STUDY_HOME": place},
    )
    assert (
        done.returncode == 0
        and rb"a\udcffb: 0 finished runs" in done.stdout
        and b"Traceback" not in done.stderr
    )


@pytest.mark.faults
def test_what_is_trained_in_a_strange_place_is_the_same(
    raw: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Rows to the bit; the model and the data lie in strange places, too."""
    (odd := tmp_path / "Grüße  [1]").mkdir()
    (tmp_path / "link").symlink_to(odd, target_is_directory=True)
    moved = shutil.copytree(raw.removeprefix("path:"), tmp_path / "link" / "mein Modell")
    small = dict(sizes=[3], from_base=[], eval_prompts=["zero-shot"])
    tables = []
    for reference, home in (
        (raw, tmp_path / "home"),
        (f"path:{moved}", tmp_path / "link" / "my store"),
    ):
        monkeypatch.setenv("STUDY_HOME", str(home))
        study.complete(plan := planned(reference, **small))
        tables.append(study.rows(plan))
    assert tables[0].equals(tables[1]) and len(tables[0])


def in_a_terminal(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    there = os.environ | environment
    return subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=there,
    )


@pytest.mark.faults
@pytest.mark.parametrize(
    "damage",
    [
        halved,
        weighed(lambda weights: weights.pop(QUERY)),
        of_another_architecture,
        without("tokenizer.json"),
    ],
)
def test_nothing_else_is_said_in_a_terminal_of_a_damaged_model(
    damage: Callable, sound: Path, tmp_path: Path, params_file: Callable, home: Path
):
    """Nor by the libraries that load it."""
    damage(folder := shutil.copytree(sound, tmp_path / "model"))
    done = in_a_terminal("run", params_file(families={"mini": f"path:{folder}"}, sizes=[3]))
    check_refusal(done.returncode, done.stdout, done.stderr, home)
    assert str(folder) in done.stderr


@pytest.mark.faults
@pytest.mark.parametrize(
    "sentence",
    ["profile: [\x1b[31m", "sizes: [\u202e]\n", "\ufeffsizes: 4\n"],
    ids=["escape", "override", "mark"],
)
def test_nothing_unprintable_reaches_a_terminal(sentence: str, tmp_path: Path, home: Path):
    (path := tmp_path / "capacity_gap.yaml").write_text(sentence, encoding="utf-8")
    done = in_a_terminal("run", str(path))
    check_refusal(done.returncode, done.stdout, done.stderr, home)
    assert done.stderr.strip().isprintable() and str(path) in done.stderr


@pytest.mark.faults
def test_a_read_only_disk_is_refused_by_its_path(tmp_path: Path, params_file: Callable):
    """Also for one who may write everywhere: a read-only mount, for this process alone."""
    (disk := tmp_path / "disk").mkdir()
    mounted = f"mount --bind '{disk}' '{disk}' && mount -o remount,ro,bind '{disk}'"
    if (
        not shutil.which("unshare")
        or subprocess.run(["unshare", "-m", "sh", "-c", mounted], capture_output=True).returncode
    ):
        pytest.skip("needs to mount: unshare -m")
    command = [
        *["unshare", "-m", "sh", "-c"],
        f'{mounted} && exec "$@"',
        "sh",
        sys.executable,
        "-c",
        COMMAND,
        "run",
        params_file(),
    ]
    there = os.environ | {"STUDY_HOME": str(disk / "home")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=there)
    check_refusal(done.returncode, done.stdout, done.stderr, disk / "home")
    assert f"{disk / 'home'} cannot be read or written (Read-only file system)" in done.stderr


def test_there_are_as_many_cases_as_are_promised():
    """Of parameters, SQuAD's form, MLQA's folder, model folders and store paths, no two of the same
    name."""
    tables = {
        "parameters": [PARAMETERS, YAMLS],
        "SQuAD": [DAMAGED, BYTES, LINES],
        "MLQA": [MLQA],
        "models": [FOLDERS],
        "stores": [STORES],
    }
    least = {"parameters": 20, "SQuAD": 25, "MLQA": 4, "models": 10, "stores": 6}
    for what, several in tables.items():
        assert all(len({case[0] for case in table}) == len(table) for table in several)
        assert sum(map(len, several)) >= least[what]
