"""What a stranger sends stays data: weights, data sets, archives, parameters, names, and what a
server says.

Each test would fail if what it guards were let in; what a hostile file would do is shown once to
work (`test_the_traps_are_set`).
"""

import ast
import base64
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from xml.etree import ElementTree

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as some
from miniatures import model, planned, tokenizer
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook
from patience import PATIENCE

from studylib.analysis import contrasts, cost, figures, retention, summary, teacher_sizes
from studylib.app import export, parameters, report, study
from studylib.app import origins as app_origins
from studylib.app.cli import main
from studylib.app.notebooks import Job
from studylib.core import project
from studylib.core.errors import HIDDEN, StudyError, sentence_of
from studylib.core.escaping import printable
from studylib.core.project import root
from studylib.data import archives, hub
from studylib.data import squad as data_squad
from studylib.engines import engines
from studylib.evaluation import decoding
from studylib.experiments.plans import Plan
from studylib.models import loading
from studylib.store import output_folder
from studylib.store.run import Run
from studylib.store.store import Store

COMMIT = "1" * 40
CANARY = "hf_canaryCANARYcanaryCANARYcanary"
PASSWORD = "passwordPASSWORD"


def one_sentence(text: str) -> bool:
    return (
        "\n" not in text.strip() and "Traceback" not in text and text.strip().endswith((".", "?"))
    )


# Nothing in the code does it


FORBIDDEN = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "code",
    "runpy",
    "imp",
}
CALLS = {"eval", "exec", "compile", "__import__"}
METHODS = {
    *(
        "torch.load",
        "np.load",
        "numpy.load",
        "pd.read_pickle",
        "os.system",
        "os.popen",
        "subprocess.getoutput",
        "torch.hub.load",
    ),
    *(
        "yaml.load",
        "yaml.load_all",
        "yaml.full_load",
        "yaml.unsafe_load",
        "importlib.import_module",
        "read_pickle",
        "torch.jit.load",
    ),
}
ENDINGS = ("extractall", "extract")  # of an archive: members are read by name
ARGUMENTS = {
    "shell": True,
    "trust_remote_code": True,
    "allow_pickle": True,
    "weights_only": False,
    "escape": False,
    "autoescape": False,
}


def forbidden(source: str) -> Iterator[str]:
    """What a program does that none here may do."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (
                f"import {alias.name}"
                for alias in node.names
                if alias.name.partition(".")[0] in FORBIDDEN
            )
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (
                name for name in names if name.partition(".")[0] in FORBIDDEN or name in METHODS
            )
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in CALLS | METHODS or (
                isinstance(node.func, ast.Attribute) and node.func.attr in ENDINGS
            ):
                yield called
            for given_ in node.keywords:
                if given_.arg in ARGUMENTS and not (
                    isinstance(given_.value, ast.Constant)
                    and given_.value.value is not ARGUMENTS[given_.arg]
                ):
                    yield f"{given_.arg}={ast.unparse(given_.value)}"
            if called.endswith("from_pretrained") and not any(
                keyword.arg in (None, "local_files_only") for keyword in node.keywords
            ):
                yield f"{called} without local_files_only"


@pytest.mark.parametrize(
    "source",
    [
        *(
            "import pickle",
            "from pickle import loads",
            "import joblib.memory",
            "from torch import load\nfrom os import system",
            "eval('1')",
        ),
        *(
            "exec(x)",
            "torch.load(f)",
            "np.load(f)",
            "yaml.load(f)",
            "yaml.load(f, Loader=yaml.Loader)",
            "os.system('x')",
        ),
        *(
            "subprocess.run('x', shell=True)",
            "f(shell=anything)",
            "AutoModel.from_pretrained(x, local_files_only=True, trust_remote_code=True)",
        ),
        *(
            "AutoModel.from_pretrained('x')",
            "tarfile.open(f).extractall()",
            "create_markdown(escape=False)",
            "np.load(f, allow_pickle=True)",
        ),
    ],
)
def test_what_is_forbidden_is_seen(source: str):
    assert list(forbidden(source))


@pytest.mark.parametrize(
    "file", sorted((root() / "studylib").rglob("*.py")), ids=lambda file: file.stem
)
def test_no_module_unpickles_evaluates_or_trusts(file: Path):
    """Methods are found by scanning their own folder of the package, and nothing else is."""
    scans = ["importlib.import_module"] if file.parts[-2:] == ("methods", "stages.py") else []
    assert list(forbidden(file.read_text(encoding="utf-8"))) == scans


@pytest.mark.parametrize(
    "file", sorted((root() / "notebooks").glob("*.ipynb")), ids=lambda file: file.stem
)
def test_no_notebook_calls_a_shell_or_a_magic(file: Path):
    cells = [
        cell.source for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "code"
    ]
    assert not [
        line for cell in cells for line in cell.splitlines() if line.lstrip().startswith(("!", "%"))
    ]
    assert list(forbidden("\n".join(cells))) == [] and not any(
        "get_ipython" in cell for cell in cells
    )


def test_what_is_put_into_the_page_unescaped_is_markdown_that_was_escaped():
    page = (root() / "studylib" / "app" / "report.html").read_text(encoding="utf-8")
    assert (
        len(re.findall(r"\| safe", page))
        == len(re.findall(r"\| markdown( \| led\([\w.\[\]]+\))? \| safe", page))
        > 0
        and "autoescape" not in page
    )


# Models


class Trap:
    """Unpickled, it writes a file."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def code(file: Path) -> str:
    """A module that writes a file when it is imported or run."""
    return f"open({str(file)!r}, 'w').close()\nclass Trap: pass\n"


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    """The file that a trap would write."""
    return tmp_path / "sprung"


@pytest.fixture
def folder(tmp_path: Path, raw: str, sprung: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sound model's folder, with a trap of every kind beside it that nobody asked for; torch's
    unpickler, which is careful but is one, is not to be called."""
    place = tmp_path / "model"
    shutil.copytree(raw.removeprefix("path:"), place)
    for name in (
        "training_args.bin",
        "optimizer.pt",
        "last.ckpt",
        "tokenizer.pkl",
        "vocab.bin",
        "scheduler.pth",
        "events.npy",
    ):
        (place / name).write_bytes(pickle.dumps(Trap(sprung)))
    for name in (
        "evil.py",
        "__init__.py",
        "sitecustomize.py",
        "modeling_llama.py",
        "tokenization_llama.py",
        "handler.py",
    ):
        (place / name).write_text(code(sprung))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("unpickled"))
    return place


def test_the_traps_are_set(sprung: Path):
    """Else all that follows would say nothing."""
    pickle.loads(pickle.dumps(Trap(sprung))).close()
    assert sprung.exists()
    sprung.unlink()
    exec(code(sprung))
    assert sprung.exists()


def changed(file: Path, **values: object) -> None:
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    file.write_text(json.dumps(known | values), encoding="utf-8")


def unpickled(place: Path, *names: str) -> None:
    """Put traps in the place of the weights."""
    (place / "model.safetensors").rename(place / "other.safetensors")
    for name in names:
        (place / name).write_bytes(pickle.dumps(Trap(place.parent / "sprung")))


def indexed(place: Path, name: str) -> None:
    """An index that says of all weights that they are in this file."""
    names = [name for name, _ in model("llama").named_parameters()]
    index = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(names, name)}
    (place / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def outside(place: Path) -> None:
    unpickled(place)
    shutil.copy(place / "other.safetensors", place.parent / "outside.safetensors")
    indexed(place, "../outside.safetensors")


AUTO = {
    "AutoConfig": "evil.Trap",
    "AutoModelForCausalLM": "evil.Trap",
    "AutoTokenizer": ["evil.Trap", "evil.Trap"],
}
REFUSED: dict[str, Callable[[Path], object]] = {
    "pickled weights": lambda place: unpickled(
        place, "pytorch_model.bin", "model.pt", "model.ckpt", "adapter_model.bin"
    ),
    "weights that are a pickle": (
        lambda place: (place / "model.safetensors").write_bytes(
            pickle.dumps(Trap(place.parent / "sprung"))
        )
    ),
    "an index of pickles": lambda place: (
        unpickled(place, "weights.bin"),
        indexed(place, "weights.bin"),
    ),
    "an index of a sound pickle": lambda place: (
        unpickled(place),
        torch.save({}, place / "weights.bin"),
        indexed(place, "weights.bin"),
    ),
    "an index that leaves the folder": outside,
    "an index that is absolute": lambda place: (
        unpickled(place),
        indexed(place, str(place / "other.safetensors")),
    ),
    "an index of numbers": (
        lambda place: (place / "model.safetensors.index.json").write_text('{"weight_map": 5}')
    ),
    "weights of another name": lambda place: (
        unpickled(place, "adapter_model.bin"),
        changed(place / "config.json", transformers_weights="adapter_model.bin"),
    ),
    "an adapter": lambda place: changed(
        place / "adapter_config.json", peft_type="LORA", base_model_name_or_path="elsewhere"
    ),
    "an attention of the hub's": lambda place: changed(
        place / "config.json", attn_implementation="kernels-community/flash-attn"
    ),
    "such an attention by its inner name": lambda place: changed(
        place / "config.json", _attn_implementation="someone/evil"
    ),
    "code for an unknown kind": lambda place: changed(
        place / "config.json", model_type="evil", auto_map=AUTO
    ),
    "code for its tokenizer": lambda place: changed(
        place / "tokenizer_config.json", tokenizer_class="Trap", auto_map=AUTO
    ),
}
HARMLESS: dict[str, Callable[[Path], object]] = {
    "pickles beside": (
        lambda place: (place / "pytorch_model.bin").write_bytes(
            pickle.dumps(Trap(place.parent / "sprung"))
        )
    ),
    "code for a known kind": lambda place: (
        changed(place / "config.json", auto_map=AUTO),
        changed(place / "tokenizer_config.json", auto_map=AUTO),
    ),
    "a tokenizer of another name": lambda place: changed(
        place / "tokenizer_config.json", tokenizer_class="os.system"
    ),
    "a template that would break out": lambda place: changed(
        place / "tokenizer_config.json",
        chat_template="{{ ''.__class__.__mro__[1].__subclasses__() }}",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_model_that_would_run_something_is_refused_in_a_sentence(
    what: str, folder: Path, sprung: Path, monkeypatch
):
    monkeypatch.setattr(
        "builtins.input", lambda *_: pytest.fail("asked whether it is to be trusted")
    )
    REFUSED[what](folder)
    with pytest.raises(StudyError) as refused:
        loading.load(f"path:{folder}")
    assert (
        str(folder) in str(refused.value)
        and one_sentence(str(refused.value))
        and not sprung.exists()
    )
    for read in (loading.config, loading.tokenizer):
        try:
            read(f"path:{folder}")
        except StudyError as error:
            assert one_sentence(str(error))
    assert not sprung.exists()


@pytest.mark.parametrize("what", HARMLESS)
def test_code_and_pickles_beside_sound_weights_stay_where_they_are(
    what: str, folder: Path, sprung: Path
):
    HARMLESS[what](folder)
    net, words = loading.load(f"path:{folder}")
    assert loading.config(f"path:{folder}").model_type == "llama" and len(
        loading.tokenizer(f"path:{folder}")
    ) == len(words)
    assert all(
        torch.equal(parameter, other)
        for parameter, other in zip(net.parameters(), model("llama").parameters(), strict=True)
    )
    assert not sprung.exists() and "evil" not in sys.modules


def test_a_chat_template_cannot_leave_its_sandbox(folder: Path, sprung: Path):
    """Asked in the tokenizer's template, text is made by a program that came with the model."""
    written = f"{{{{ cycler.__init__.__globals__.os.system('touch {sprung}') }}}}"
    changed(folder / "tokenizer_config.json", chat_template=written)
    words = loading.tokenizer(f"path:{folder}")
    with pytest.raises(Exception, match=r"unsafe|undefined"):
        words.apply_chat_template([{"role": "user", "content": "Who?"}], tokenize=False)
    assert not sprung.exists()


# Data sets


@pytest.mark.parametrize("kind", ["pkl", "npy", "parquet", "json", "jsonl"])
def test_a_data_set_that_is_a_pickle_is_refused(kind: str, tmp_path: Path, sprung: Path):
    file = tmp_path / f"mine.{kind}"
    if kind == "npy":
        np.save(file, np.array([Trap(sprung)], dtype=object), allow_pickle=True)
    else:
        file.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(StudyError, match="is not JSON in UTF-8") as refused:
        data_squad.load({"source": f"path:{file}"})
    assert one_sentence(str(refused.value)) and not sprung.exists()


def test_a_folder_of_a_data_sets_name_is_not_read_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "someone" / "thing").mkdir(parents=True)
    (tmp_path / "someone" / "thing" / "train.json").write_text("[]")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        StudyError, match=f"{tmp_path / 'someone' / 'thing'} would be read in its place"
    ):
        data_squad.load({"source": f"hub:someone/thing@{COMMIT}", "split": "train"})


# Archives


RUN_BY_OTHERS = (  # what an installer, Python or pytest would run
    "setup.py",
    "backend.py",
    "toy/__init__.py",
    "sitecustomize.py",
    "usercustomize.py",
    "conftest.py",
    "wanted.py",
)
BUILD = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def add(packed: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    """Put a file into an archive."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    packed.addfile(entry, io.BytesIO(content))


def write_hostile_archive(archive: Path, genuine: bytes, trap: bytes, place: Path) -> None:
    """Write a source archive which holds what is wanted among all that could do harm. `place` is
    where it would write, and has a secret that it would read."""
    secret = place / "secret.json"
    secret.write_text('{"secret": "told"}')
    files = {
        "toy-1.0/pyproject.toml": BUILD,
        f"{place}/evil.json": genuine,
        "/wanted.txt": b"other",
        "../../../evil/evil.json": genuine,
        **{f"toy-1.0/{name}": trap for name in RUN_BY_OTHERS},
        "toy-1.0/toy.pth": b"import backend",
    }
    no_files = {
        tarfile.SYMTYPE: str(secret),
        tarfile.LNKTYPE: "toy-1.0/setup.py",
        tarfile.FIFOTYPE: "",
        tarfile.CHRTYPE: "",
        tarfile.DIRTYPE: "",
    }
    with tarfile.open(archive, "w:gz") as packed:
        for name, content in files.items():
            add(packed, name, content)
        for kind, target in no_files.items():
            entry = tarfile.TarInfo("toy-1.0/wanted.json")
            entry.type, entry.linkname = kind, target
            packed.addfile(entry)
        add(packed, "../../../../wanted.json", genuine, mode=0o6777)
        add(packed, "toy-1.0/wanted.json", b'{"data": "another"}', mode=0o6777)


@pytest.fixture
def hostile(
    served: tuple[Path, str],
    squad: dict,
    sprung: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A package index of one source archive, which holds what is wanted among all that could do
    harm."""
    place, address = served
    archive, genuine = place / "toy-1.0.tar.gz", json.dumps(squad).encode()
    write_hostile_archive(archive, genuine, code(sprung).encode(), tmp_path)
    whole = hashlib.sha256(archive.read_bytes()).hexdigest()
    (place / "simple" / "toy").mkdir(parents=True)
    link = f'<a href="/toy-1.0.tar.gz#sha256={whole}" data-requires-python=">=3">toy-1.0.tar.gz</a>'
    (place / "simple" / "toy" / "index.html").write_text(
        f"<!DOCTYPE html><html><body>{link}</body></html>"
    )
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple/")
    members = {"wanted.json": hashlib.sha256(genuine).hexdigest()}
    monkeypatch.setattr(archives, "PINNED", {"toy==1.0": archives.Archive(whole, members, 1)})
    return place


def every(place: Path, *but: Path) -> set[Path]:
    return {
        path
        for path in place.rglob("*")
        if not any(path == exception or exception in path.parents for exception in but)
    }


def test_a_hostile_source_archive_gives_what_is_wanted_and_does_nothing(
    hostile, squad, home, sprung, tmp_path, capsys, monkeypatch
):
    """By the command line: the address from an index, the archive from there, one member out of
    it."""
    place = tmp_path / "called here"
    place.mkdir()
    reference = {"source": "archive:toy==1.0/wanted.json"}
    values = {
        "families": {"toy": "tiny:qwen2"},
        "data": {"train": reference, "dev": reference, "tests": {"near": reference}},
    }
    (place / "capacity_gap.yaml").write_text(yaml.safe_dump(values))
    before = every(tmp_path, home)
    assert main(["data", "show", f"{place / 'capacity_gap.yaml'}/near"]) == 0
    assert "Kamo lives in Tiru" in capsys.readouterr().out
    assert every(tmp_path, home) == before and not sprung.exists()
    kept = home / "downloads" / "toy==1.0"
    assert [path for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"] == [
        kept / "wanted.json"
    ]
    assert (
        json.loads((kept / "wanted.json").read_text()) == squad
        and not (kept / "wanted.json").is_symlink()
    )
    assert (kept / "wanted.json").stat().st_mode & 0o7111 == 0, (
        "it is no program, whatever the archive says"
    )


def test_a_password_in_the_address_of_an_index_is_told_to_nobody(served, monkeypatch, capsys, home):
    folder, address = served
    host = address.removeprefix("http://")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://user:{PASSWORD}@{host}/simple/")
    (folder / "simple" / "toy").mkdir(parents=True)
    (folder / "toy-1.0.tar.gz").write_bytes(b"not what was pinned")
    monkeypatch.setattr(
        archives, "PINNED", {"toy==1.0": archives.Archive("0" * 64, {"wanted.json": "0" * 64}, 1)}
    )
    for link in (
        "/toy-1.0.tar.gz",
        f"http://user:{PASSWORD}@{host}/toy-1.0.tar.gz",
        f"http://user:{PASSWORD}@[::1/toy-1.0.tar.gz",
    ):
        (folder / "simple" / "toy" / "index.html").write_text(
            f'<html><body><a href="{link}">toy-1.0.tar.gz</a></body></html>'
        )
        with pytest.raises(StudyError) as refused:
            archives.member("toy==1.0/wanted.json")
        chain = [refused.value, refused.value.__cause__]
        assert not any(PASSWORD in str(error) for error in chain if error is not None)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://user:{PASSWORD}@127.0.0.1:1/simple/")
    with pytest.raises(StudyError) as refused:
        archives.member("toy==1.0/wanted.json")
    assert refused.value.__cause__ is None and PASSWORD not in str(refused.value)


# Parameters


QUOTES = [
    "'",
    '"',
    "'''",
    '"""',
    "\\",
    "\\'",
    '\\"',
    "\\\\'",
    '\\\\"',
    "'\"",
    "\\N{DIGIT ONE}",
    "\\x41",
    "\\u0041",
    "r'",
    "#",
    "`",
    "$x$",
]
BREAKS = [
    "\n",
    "\r",
    "\r\n",
    "\u2028",
    "\u2029",
    "\x85",
    "\x0b",
    "\x0c",
    "\t",
    "\0",
    "\x1b[2J",
    "\x7f",
    "\ufeff",
    "\u202e",
    "é",
    "東",
    "😀",
]
PROGRAMS = [
    "{}\"); __import__('os').system('touch x') #",
    "'); __import__('os').system('touch x') #",
    '"\n__import__("os").system("touch x")\n"',
    "\\\"\n__import__('os').system('touch x')\n#",
    "${HOME} $(touch x) `touch x`",
    "{profile} {0.__class__} {profile!r:>{0}} {{ 7 * 7 }} {% for x in y %} {# #}",
    "!touch x",
    "%system touch x",
    "!!python/object/apply:os.system ['touch x']",
    "<script>open('x')</script>",
]
WORST = [
    *QUOTES,
    *BREAKS,
    *PROGRAMS,
    "".join(QUOTES + BREAKS),
    "None",
    "True",
    "1e999",
    "nan",
    "",
    " ",
]
NOTEBOOK = root() / "notebooks" / "capacity_gap.ipynb"
values_ = some.recursive(
    some.none()
    | some.booleans()
    | some.integers()
    | some.floats()
    | some.text()
    | some.sampled_from(WORST),
    lambda part: (
        some.lists(part, max_size=4)
        | some.dictionaries(some.text() | some.sampled_from(WORST), part, max_size=4)
    ),
    max_leaves=8,
)


def injected(values: dict) -> dict:
    """What papermill's cell gives the names, read without running it; the cell does nothing but
    give names values."""
    notebook = parameterize_notebook(load_notebook_node(str(NOTEBOOK)), values)
    (cell,) = [
        cell for cell in notebook.cells if "injected-parameters" in cell.metadata.get("tags", ())
    ]
    given_ = ast.parse(cell.source).body
    assert all(
        isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name) for line in given_
    )
    return {line.targets[0].id: ast.literal_eval(line.value) for line in given_}


def through(values: dict, file: Path) -> dict | None:
    """The values as the notebook would have them when they come from a YAML; None where they are
    refused, in a sentence."""
    file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    try:
        read = parameters.read(NOTEBOOK, file)
    except StudyError as error:
        assert one_sentence(str(error)), str(error)
        return None
    return injected(read)


@pytest.mark.parametrize("text", WORST, ids=ascii)
def test_a_text_arrives_in_the_notebook_as_it_is(text: str, tmp_path: Path):
    values = {
        "train_prompt": text,
        "families": {text: text, "nested": text},
        "data": {"tests": {text: {"source": [text, {text: [text]}]}}},
    }
    assert through(values, tmp_path / "mine.yaml") == values


@pytest.mark.slow
@settings(max_examples=60)
@given(value=some.dictionaries(some.text() | some.sampled_from(WORST), values_, max_size=3))
def test_whatever_is_nested_arrives_as_it_is_or_is_refused(
    value: dict, tmp_path_factory: pytest.TempPathFactory
):
    got = through(
        {"machine": {"engine_options": value}}, tmp_path_factory.getbasetemp() / "nested.yaml"
    )
    assert got is None or json.dumps(got["machine"]["engine_options"]) == json.dumps(value)


@pytest.mark.parametrize(
    "text",
    [
        "train_prompt: !!python/object/apply:os.system ['touch {file}']",
        "families: !!python/object/new:os.system ['touch {file}']",
        "data: !!python/name:os.system",
        "train_prompt: !!python/object/apply:builtins.open ['{file}', 'w']",
        "? !!python/object/apply:builtins.open ['{file}', 'w']\n: 1",
        "'train_prompt = 1; import os; os.system(\"touch {file}\") #': x",
        '\'__import__("os").system("touch {file}")\': x',
        "'train_prompt\nimport os': x",
        "'{{train_prompt}}': x",
        "train_prompt: '\\0'\n__builtins__: x",
        "data: {{tests: {{1: {{source: x}}}}}}",
        "machine: {{engine_options: {{true: 1}}}}",
        "machine: {{engine_options: {{null: 1}}}}",
        "training: {{stages: [{{steps: 1, losses: {{1.5: 1}}}}]}}",
        "seeds: [2020-13-40]",
        "seeds: &a [*a]",
        "seeds: [0x" + "f" * 5000 + "]",
        "seeds: [" + "9" * 5000 + "]",
        "seeds: " + "[" * 3000,
    ],
    ids=lambda text: text[:40],
)
def test_what_would_be_a_program_or_another_value_is_refused(
    text: str, tmp_path: Path, sprung: Path, capsys
):
    file = tmp_path / "capacity_gap.yaml"
    file.write_text(text.format(file=sprung), encoding="utf-8")
    assert main(["run", str(file)]) == 2
    captured = capsys.readouterr()
    assert (
        one_sentence(captured.err)
        and captured.err.startswith(f"study: {file}")
        and not sprung.exists()
        and captured.out == ""
    )


@pytest.mark.parametrize(
    "profile", ["../../elsewhere", "/tmp/elsewhere", "..", ".", "a/b", "a/../../b", "", "a\0b", "/"]
)
def test_a_profile_stays_under_figures(profile: str, tmp_path: Path, home: Path, capsys):
    (tmp_path / "capacity_gap.yaml").write_text(yaml.safe_dump({"profile": profile}))
    for verb in ("run", "status", "report"):
        assert main([verb, str(tmp_path / "capacity_gap.yaml")]) == 2
        output = capsys.readouterr()
        assert (
            one_sentence(output.err)
            and f"profile {profile!r} names a folder under figures/" in output.err
        )
    assert not home.exists()


def test_the_worst_arrives_in_a_kernel_and_nothing_is_run(tmp_path: Path):
    names = ("values", "mapping")
    cells = [
        nbformat.v4.new_code_cell("values = []\nmapping = {}", metadata={"tags": ["parameters"]})
    ]
    cells += [
        nbformat.v4.new_code_cell(
            "import json, os\njson.dump([values, mapping, os.listdir()], open('../got.json', 'w'))"
        )
    ]
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "plain.ipynb")
    place = tmp_path / "empty"
    place.mkdir()
    values = dict(zip(names, (WORST, {text: [text, {text: text}] for text in WORST}), strict=True))
    papermill.execute_notebook(
        str(tmp_path / "plain.ipynb"), None, parameters=values, cwd=str(place), progress_bar=False
    )
    assert json.loads((tmp_path / "got.json").read_text()) == [
        values["values"],
        values["mapping"],
        [],
    ]
    assert list(place.iterdir()) == []


# The report


EVILS = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    '"onload="alert(3)" x="',
    "' onerror='alert(4)",
    "<!-- <script>",
    "-->",
    "]]>",
    "& &lt;b&gt; &#60;i&#62;",
    "\u2028\u2029",
    "\x1b]8;;http://elsewhere.example\x1b\\\x07\x9b2J\u202e\u2066\u200f",
    "<img src=x onerror=alert(5)>",
    "[x](javascript:alert(6))",
    "![x](http://elsewhere.example/x.png)",
    "<http://elsewhere.example>",
    "{{ 7 * 7 }} {% raw %}",
    "</style><svg onload=alert(7)>",
    "</title></textarea></p>",
]
EVIL = " ".join(EVILS)
# what a name may hold
NAMED = """a" onload="alert(8)' & {{ 7 + 7 }} javascript:alert(9)"""


class Page(HTMLParser):
    """What a browser would make of a page: elements with their attributes, and text."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_comment(self, comment: str) -> None:
        self.elements.append(("comment", {}))

    def handle_data(self, text: str) -> None:
        self.texts.append((self.elements[-1][0] if self.elements else "", text))


def write_hostile_questions(place: Path) -> Path:
    """Write a question in which all is hostile, into a file of such a name, and return where."""
    answers = [{"text": EVIL, "answer_start": 5}]
    qas = [{"id": f"q1 {EVIL}", "question": f"Where? {EVIL}", "answers": answers}]
    articles = [{"title": EVIL, "paragraphs": [{"context": f"Tiru {EVIL} Kamo.", "qas": qas}]}]
    file = place / "<script>alert(0)<" / "script> & 'mine'.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"data": articles}))
    return file


def hostile_plan(place: Path) -> Plan:
    """The plan of a small study whose family, test set and questions are hostile."""
    base = model("llama", max_position_embeddings=4096)  # such questions are long
    loading.save(base, tokenizer(), place / "base")
    return planned(
        "",
        families={NAMED: f"path:{place / 'base'}"},
        sizes=[2],
        from_base=[],
        eval_prompts=["zero-shot"],
        tests={NAMED: {"source": f"path:{write_hostile_questions(place)}"}},
    )


def export_hostile(plan: Plan, store: Store, where: Path) -> pd.DataFrame:
    """Export what a notebook shows of the plan, with hostile origins and runs, as a folder is that
    someone else has made. Returns the origins."""
    rows, learned = study.rows(plan, store), study.curves(plan, store)
    origins, timing = study.origins(plan, store), study.timing(plan, rows, store)
    kept, gained, costs = retention.compare(rows), contrasts.contrasts(rows), cost.pareto(timing)
    sources, sweep = app_origins.summary(plan, origins), teacher_sizes.sweep(rows)
    texts = summary.capacity_gap(
        kept, gained, costs, teacher_sizes.law(rows), rows[:0], "zero-shot", sources
    )
    drawn = figures.capacity_gap(kept, retention.by_seed(rows), costs, sweep, learned, "zero-shot")
    origins = origins.assign(**dict.fromkeys(("python", "processor_name", "label"), EVIL))
    exported = {"learning": learned, "runs": origins, "timing": timing, "contrasts": gained}
    study.export(where, rows, exported, texts, drawn)
    lines = pd.read_csv(where / "retention.csv")
    lines.assign(runs=EVIL).to_csv(where / "retention.csv", index=False)
    (where / output_folder.DIGESTS).unlink()
    return origins


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report in which all that anyone can name or write is hostile, answers of
    models among it."""
    place = tmp_path_factory.mktemp("reported")
    plan, store = hostile_plan(place), Store(place / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", CANARY)
        patch.setattr(decoding, "clean", lambda *_: EVIL)
        study.complete(plan, store)
        patch.setattr(project, "figures_folder", lambda profile, notebook: place / notebook)
        origins = export_hostile(plan, store, place / "capacity_gap")
        tests = {NAMED: {"source": plan.tests[0].value["source"]}}
        job = Job(NOTEBOOK, NAMED, {"families": {NAMED: EVIL}, "tests": tests}, plan)
        patch.setattr(app_origins, "origins", lambda *_: origins)
        report.write([job], store)
        student = next(run for run in plan.runs if run.kind == "student")
        patch.setenv("STUDY_HOME", str(place / "home"))
        export.export(store.key(student), place / "exported")
    return place


@pytest.mark.slow
def test_whatever_is_in_data_and_names_is_text_in_the_page(reported: Path):
    text = (reported / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    tags = [tag for tag, _ in page.elements]
    assert (
        tags.count("script") == 2
        and tags.count("style") == 1
        and "comment" not in tags
        and "svg" not in tags
    )
    assert not [name for _, given_ in page.elements for name in given_ if name.startswith("on")]
    addresses = [
        value
        for _, given_ in page.elements
        for name, value in given_.items()
        if name in ("href", "src", "action", "data")
    ]
    assert addresses and all(
        value.startswith(("#", "data:image/svg+xml;base64,", "data:,")) for value in addresses
    )
    assert all("\u2028" not in line for tag, line in page.texts if tag == "script")
    shown = " ".join("".join(line for tag, line in page.texts if tag != "script").split())
    assert f"family {NAMED}" in shown and f"test set {NAMED}" in shown
    assert " ".join(printable(EVIL).split()) in shown, "so are runs and machines"


@pytest.mark.slow
def test_nothing_in_the_page_steers_what_is_written_beside_it(reported: Path):
    text = (reported / "report.html").read_text(encoding="utf-8")
    assert not {char for char in text if char not in "\n\t" and printable(char) != char}
    assert r"\x1b]8;;http://elsewhere.example\x1b" in text and r"\u202e\u2066\u200f" in text
    card = (reported / "exported" / "README.md").read_text(encoding="utf-8")
    assert not {char for char in card if char != "\n" and printable(char) != char}


@pytest.mark.slow
def test_the_answers_in_the_page_are_what_the_store_has(reported: Path):
    """The part that the page's program reads: nothing in it ends the element early, and JSON gives
    back every character."""
    (element,) = [
        line
        for line in (reported / "report.html").read_text(encoding="utf-8").splitlines()
        if 'id="answer-data"' in line
    ]
    held = element.partition('id="answer-data">')[2].partition("</script>")[0]
    assert not set("<>&'\u2028\u2029") & set(held) and element.endswith(f"{held}</script>")
    content = json.loads(held)
    (asked,) = content["questions"]
    assert (
        content["contexts"] == [f"Tiru {EVIL} Kamo."]
        and asked["article"] == EVIL
        and asked["gold"] == [EVIL]
    )
    assert asked["question"] == f"Where? {EVIL}" and asked["set"].startswith(NAMED)
    assert {answer for _, answer in asked["answers"]} == {EVIL} and all(
        NAMED in name for name in content["models"]
    )


@pytest.mark.parametrize(
    "name",
    [name for name in EVILS if set(name) & set("<>[|")]
    + ["a | b", "a\nb", "a\rb", "*a*", "`a`", "$\\undefined$", "=1+1", "_mine"],
    ids=ascii,
)
def test_a_name_that_would_be_more_than_text_in_a_table_is_refused(
    name: str, tmp_path: Path, capsys
):
    for what in (
        {"families": {name: "tiny:qwen2"}},
        {"data": {"tests": {name: {"source": "facts:test"}}}},
    ):
        (tmp_path / "capacity_gap.yaml").write_text(yaml.safe_dump(what))
        assert main(["status", str(tmp_path / "capacity_gap.yaml")]) == 2
        message = capsys.readouterr().err
        assert one_sentence(message) and "cannot be a name in tables" in message


@pytest.mark.slow
def test_a_figure_holds_names_as_text(reported: Path):
    drawn = list((reported / "capacity_gap").glob("*.svg"))
    assert drawn
    for file in drawn:
        tags = {
            element.tag.rpartition("}")[2]
            for element in ElementTree.parse(file).iter()
            if isinstance(element.tag, str)
        }
        assert not tags & {"script", "img", "image", "foreignObject", "a"}
        assert NAMED not in file.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_page_allows_its_own_program_and_style_and_nothing_else(reported: Path):
    """By their hashes: what is let in in spite of all would not be run by a browser, nor be able to
    send anything anywhere."""
    text = (reported / "report.html").read_text(encoding="utf-8")
    (policy,) = [
        given_["content"]
        for tag, given_ in Page(text).elements
        if given_.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    hashed = {
        tag: (
            base64.b64encode(
                hashlib.sha256(
                    text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0].encode()
                ).digest()
            ).decode()
        )
        for tag in ("script", "style")
    }
    assert rules.pop("script-src") == [f"'sha256-{hashed['script']}'"] and rules.pop(
        "style-src"
    ) == [f"'sha256-{hashed['style']}'"]
    assert rules.pop("img-src") == ["data:"] and set(rules) == {
        "default-src",
        "base-uri",
        "form-action",
    }
    assert all(rule == ["'none'"] for rule in rules.values())


@pytest.mark.browser
def test_a_browser_runs_nothing_of_it(browser, reported: Path):
    page, seen = browser.new_page(), []
    page.on("dialog", lambda dialog: (seen.append(dialog.message), dialog.dismiss()))
    page.on(
        "request",
        lambda request: (
            seen.append(request.url) if not request.url.startswith(("file:", "data:")) else None
        ),
    )
    page.on("console", lambda message: seen.append(message.text))
    page.goto((reported / "report.html").as_uri())
    page.locator("summary").last.click()
    assert page.locator(".asked h3").inner_text().startswith("Where? <script>") and seen == []
    page.close()


# The hub


class Echo(BaseHTTPRequestHandler):
    """A hub that refuses, and says back whatever it was told, in every way in which a server
    can."""

    status = 401

    def do_GET(self) -> None:
        reply = f"refused: {self.headers.get('Authorization')} {CANARY}"
        body = json.dumps({"error": reply, "errors": [{"message": reply}]}).encode()
        self.send_response(self.status)
        for name in ("X-Error-Message", "X-HF-Warning", "X-Request-Id", "WWW-Authenticate"):
            self.send_header(name, reply)
        self.send_header("X-Error-Code", "Refused")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_POST = do_PUT = do_GET

    def log_message(self, *_: object) -> None:
        pass


SCRIPT = """
import sys
from pathlib import Path
from types import SimpleNamespace
from huggingface_hub.utils import _http
from studylib.app import cli, execution, notebooks
from studylib.core.errors import StudyError
from studylib.data import sources
from studylib.models import loading
from studylib.store.run import Run
from studylib.store.store import Store

_http.time = SimpleNamespace(sleep=lambda seconds: None)  # between attempts, for half a minute each
file, asked = sys.argv[1:]
print([cli.main([verb, file]) for verb in ("plan", "status", "data", "run")])
run = lambda: execution.execute(notebooks.jobs(file)[0])
read = lambda: sources.content({"source": asked, "split": "train"})
for tried in (run, lambda: loading.load(asked), read):
    try:
        tried()
    except StudyError as error:
        print(error)
def make(run, folder):
    from huggingface_hub import HfApi
    HfApi().model_info("someone/thing")
try:
    Store().complete(Run("asked", {}), make)
except Exception as error:
    print(type(error).__name__)
"""


def write_study_of_the_hub(folder: Path, questions: Path) -> Path:
    """Write the parameters of a study whose model is on the hub, and return where."""
    values = {
        "families": {"theirs": f"hub:someone/thing@{COMMIT}"},
        "profile": f"test-{folder.name}",
        "sizes": [1],
        "from_base": [],
        "data": {
            "tests": {"near": {"source": f"path:{questions}"}},
            "train": {"source": "facts:train", "paragraphs": 4},
        },
    }
    (folder / "capacity_gap.yaml").write_text(yaml.safe_dump(values))
    return folder / "capacity_gap.yaml"


def environment_with_token(kept: str, folder: Path) -> dict[str, str]:
    """This environment, with homes in a folder and a token where the hub's library looks for it:
    in the environment, or in a file."""
    known = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTEST"))
    }
    homes = {"HF_HOME": str(folder / "hub"), "STUDY_HOME": str(folder / "home")}
    (folder / "hub").mkdir()
    if kept == "file":
        (folder / "hub" / "token").write_text(CANARY)
        return known | homes | {"OMP_NUM_THREADS": "1"}
    return known | homes | {"OMP_NUM_THREADS": "1", "HF_TOKEN": CANARY}


@contextmanager
def echoing_hub(status: int) -> Iterator[tuple[str, list[str]]]:
    """The address of a hub that refuses with this status, and the authorizations that it hears."""
    heard: list[str] = []

    class Listening(Echo):
        def parse_request(self) -> bool:
            sound = super().parse_request()
            heard.append(self.headers.get("Authorization", ""))
            return sound

    Listening.status = status
    with ThreadingHTTPServer(("127.0.0.1", 0), Listening) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", heard
        server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "kept"),
    [
        (401, "environment"),
        *(
            pytest.param(*other, marks=pytest.mark.faults)
            for other in ((403, "file"), (500, "environment"))
        ),
    ],
)
def test_a_token_of_the_hub_is_told_to_nobody(
    status: int, kept: str, tmp_path: Path, squad: dict, save: Callable[..., Path]
):
    """Not on the terminal, and in no file: of a command, an executed notebook, a run that
    failed."""
    file = write_study_of_the_hub(tmp_path, save(squad))
    environment = environment_with_token(kept, tmp_path)
    with echoing_hub(status) as (address, heard):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(file), f"hub:someone/thing@{COMMIT}"],
            env=environment | {"HF_ENDPOINT": address},
            capture_output=True,
            text=True,
            cwd=root(),
            timeout=PATIENCE,
        )
    assert f"Bearer {CANARY}" in heard, "else there was nothing to tell"
    assert done.returncode == 0
    assert "could not be fetched" in done.stderr and "could not be read" in done.stdout
    assert CANARY not in done.stdout + done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    holding = [path for path in files if CANARY.encode() in path.read_bytes()]
    assert holding == ([tmp_path / "hub" / "token"] if kept == "file" else [])
    failed, notebook = tmp_path / "home" / "runs" / "asked", tmp_path / "home" / "notebooks"
    assert HIDDEN in next(failed.glob("*/error.json")).read_text()
    assert list(notebook.rglob("*.ipynb"))
    assert not study.folder(f"test-{tmp_path.name}", "capacity_gap").exists()


@pytest.mark.slow
def test_no_manifest_table_figure_page_or_model_card_holds_the_token(reported: Path):
    files = [path for path in reported.rglob("*") if path.is_file()]
    assert {"manifest.json", "rows.parquet", "retention.svg", "report.html", "README.md"} <= {
        file.name for file in files
    }
    assert not [file for file in files if CANARY.encode() in file.read_bytes()]


def test_what_a_worker_says_of_its_failure_holds_no_token(tmp_path: Path):
    run = Run("answers", {}, label="Some answers")
    assert (
        engines._reason(run, RuntimeError(f"refused: {CANARY}"), Store(tmp_path))
        == f"RuntimeError: refused: {HIDDEN}"
    )


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (f"Authorization: Bearer {CANARY} refused", "Authorization: Bearer [hidden] refused"),
        (f"https://user:{PASSWORD}@index.example/simple", "https://[hidden]@index.example/simple"),
        (f"https://{PASSWORD}@index.example/simple", "https://[hidden]@index.example/simple"),
        ("Basic dXNlcjpwYXNzd29yZA==", "Basic [hidden]"),
        ("hub:someone/thing@" + COMMIT, "hub:someone/thing@" + COMMIT),
        (
            "https://huggingface.co/a/b@main is not there.",
            "https://huggingface.co/a/b@main is not there",
        ),
    ],
)
def test_what_looks_like_a_secret_is_hidden_and_all_else_is_told(text: str, rest: str):
    assert sentence_of(ValueError(text)) == rest


def test_this_machines_token_is_hidden_whatever_it_looks_like(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", " secretsecret\n")
    assert sentence_of(ValueError("it was secretsecret.")) == f"it was {HIDDEN}"


def cached(name: str, place: Path) -> Path:
    """A model where the hub's library would have put it: files under their digests, and links to
    them by name."""
    kept = Path(os.environ["HF_HOME"]) / "hub" / f"models--{name.replace('/', '--')}"
    (kept / "blobs").mkdir(parents=True)
    (kept / "snapshots" / COMMIT).mkdir(parents=True)
    for file in sorted(place.iterdir()):
        content = file.read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        digest = hashlib.sha256(content).hexdigest() if file.suffix == ".safetensors" else git
        shutil.copy(file, kept / "blobs" / digest)
        (kept / "snapshots" / COMMIT / file.name).symlink_to(Path("..") / ".." / "blobs" / digest)
    return kept / "snapshots" / COMMIT


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_what_the_hub_sent_is_checked_by_the_digest_it_goes_by(name: str, raw: str):
    repository = f"someone/checked-{name.partition('.')[0]}"
    place = cached(repository, Path(raw.removeprefix("path:")))
    reference = f"hub:{repository}@{COMMIT}"
    net, _ = loading.load(reference)
    assert torch.equal(net.lm_head.weight, model("llama").lm_head.weight)
    blob = (place / name).resolve()
    sound = blob.read_bytes()
    blob.write_bytes(
        sound[:-9] + bytes([sound[-9] ^ 1]) + sound[-8:]
    )  # of the same size, which is all that its library looks at
    with pytest.raises(
        StudyError,
        match=rf"{place / name} is not what the hub published .*: delete {blob} and run again\.",
    ) as refused:
        loading.load(reference)
    assert one_sentence(str(refused.value))
    blob.write_bytes(sound)
    assert len(loading.load(reference)[1])


def test_a_weights_index_of_the_hub_cannot_send_elsewhere(raw: str, tmp_path: Path):
    shutil.copytree(raw.removeprefix("path:"), tmp_path / "model")
    indexed(tmp_path / "model", "../../../../outside.safetensors")
    cached("someone/elsewhere", tmp_path / "model")
    with pytest.raises(
        StudyError,
        match=(
            r"names '\.\./\.\./\.\./\.\./outside\.safetensors', which is no safetensors file of its"
            r" folder"
        ),
    ):
        hub.at_hand(f"someone/elsewhere@{COMMIT}")
