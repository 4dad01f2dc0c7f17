"""Sources: descriptions, what they are taken and refused for, what they read, and a hub that stands
on this machine."""

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pyarrow
import pytest
from patience import PATIENCE
from pyarrow import parquet
from toy_data import LINE

from studylib.core.errors import StudyError
from studylib.data import archives, sources, synthetic
from studylib.data import squad as data_squad

XQUAD = Path(__file__).parents[3] / "shared" / "data" / "xquad"
SHIFTS = Path(__file__).parents[3] / "shared" / "data" / "squad_shifts"


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({"source": "path:no/such.json"}, "There is no file .*no/such.json"),
        (
            {"source": "hub:squad", "split": "train"},
            "hub:squad is not pinned: write hub:OWNER/NAME@ and the 40 digits",
        ),
        ({"source": "hub:me/mine", "split": "train"}, "hub:me/mine is not pinned"),
        ({"source": "hub:me/mine@main", "split": "train"}, "hub:me/mine@main is not pinned"),
        ({"source": "hub:rajpurkar/squad"}, "say which split"),
        ({"source": "hub:rajpurkar/squad", "split": 3}, "split must be text"),
        ({"source": "web:squad"}, "data source 'web:squad' is unknown: use hub:"),
        (
            {"source": "path:x.json", "official": "squad"},
            "official must be one of squad-train, squad-dev, mlqa-dev-en",
        ),
        ({"source": "path:x.json", "articles": "paragraphs"}, "articles must be one of contexts"),
        (
            {
                "source": "mlqa:x",
                "split": "dev",
                "context": "de",
                "question": "de",
                "repeats": "all",
            },
            "repeats must be one of drop, not 'all'",
        ),
        ({"source": "path:x.json", "offsets": "any"}, "offsets must be one of nearest"),
        ({"source": "facts:train", "facts": 11}, "facts must be at most 10, not 11"),
        (
            {"source": "facts:train", "paragraphs": 10**9},
            "paragraphs must be at most 100,000, not 1,000,000,000",
        ),
        ({"source": "facts:train", "languages": "en"}, "languages must be a list of en, de"),
        ({"source": "facts:train", "languages": []}, "languages must be a list"),
        ({"source": "facts:train", "languages": ["en", "fr"]}, "languages must be a list"),
        ({"source": "squad"}, "data source 'squad' is unknown"),
        (
            {"source": "facts:all"},
            "facts:all is unknown: the splits are train, dev, test, out-of-domain",
        ),
        (
            {"source": "archive:squad==1.1/dev.json"},
            "archive:squad==1.1/dev.json has no pinned checksum",
        ),
        (
            {"source": "facts:train", "paragraph": 3},
            "facts:train has an unknown key 'paragraph': known are",
        ),
        ({"paragraphs": 3}, "needs a source"),
        ("facts:train", "needs a source"),
        (None, "needs a source"),
        ({"source": "facts:train", "paragraphs": "many"}, "paragraphs must be a whole number"),
        ({"source": "facts:train", "paragraphs": 0}, "paragraphs must be a whole number"),
        ({"source": "facts:train", "facts": 2.5}, "facts must be a whole number"),
        ({"source": "facts:train", "seed": True}, "seed must be a whole number"),
    ],
)
def test_a_wrong_description_is_refused_before_anything_is_read(dataset: object, message: str):
    with pytest.raises(StudyError, match=message):
        sources.fingerprint(dataset)
    with pytest.raises(StudyError, match=message):
        data_squad.load(dataset)


def test_what_is_unlabelled_counts_in_what_a_data_set_is(save: Callable):
    file = save({"data": []})
    main, other = {"source": "facts:train"}, {"source": "facts:dev", "paragraphs": 5}
    more = main | {"unlabelled": [other]}
    for what in (sources.fingerprint, sources.identity):
        assert len({what(main), what(more), what(main | {"unlabelled": [other, other]})}) == 3
    assert "facts" not in sources.recipe({"source": f"path:{file}"})
    assert "facts" in sources.recipe({"source": f"path:{file}", "unlabelled": [other]})
    mine = main | {"unlabelled": [{"source": f"path:{file}"}]}
    before = sources.identity(mine)
    mine["unlabelled"][0]["seen_paragraphs"] = 3
    assert sources.identity(mine) == before
    save({"data": [{}]})
    assert sources.identity(mine) != before
    fetched = {"source": "archive:MLQA_V1/test-context-de-question-de.json"}
    assert sources.to_fetch(main | {"unlabelled": [fetched]}) == sources.to_fetch(fetched)


def test_paths_are_relative_to_the_project(
    squad: dict, save: Callable, monkeypatch: pytest.MonkeyPatch
):
    path = save(squad)
    monkeypatch.setattr("studylib.data.sources.root", lambda: path.parent)
    assert data_squad.load({"source": f"path:{path.name}"}) == data_squad.load(
        {"source": f"path:{path}"}
    )
    assert sources.fingerprint({"source": f"path:{path.name}"}) == sources.fingerprint(
        {"source": f"path:{path}"}
    )


def test_fingerprint_says_bytes_and_selection(squad: dict, save: Callable, tmp_path: Path):
    def of(path: Path, **selection) -> str:
        return sources.fingerprint({"source": f"path:{path}", **selection})

    path = save(squad)
    moved = tmp_path / "moved.json"
    moved.write_bytes(path.read_bytes())
    assert of(moved) == of(path)
    assert of(path, part="dev", dev_articles=1) == of(path, dev_articles=1, part="dev")
    different = [
        of(path),
        of(path, paragraphs=1),
        of(path, paragraphs=2),
        of(path, part="dev", dev_articles=1),
        of(path, language="de"),
    ]
    moved.write_bytes(path.read_bytes() + b"\n")
    different.append(of(moved))
    assert len(set(different)) == len(different)


def test_what_is_declared_of_a_set_is_no_part_of_its_fingerprint(squad: dict, save: Callable):
    described = {"source": f"path:{save(squad)}", "paragraphs": 1}
    assert sources.fingerprint(described | {"seen_paragraphs": 1}) == sources.fingerprint(described)
    assert sources.fingerprint(described | {"repeats": "drop"}) != sources.fingerprint(described)


def test_fingerprint_of_an_archive_reads_nothing(monkeypatch: pytest.MonkeyPatch):
    def pin(digest: str) -> str:
        monkeypatch.setattr(
            archives,
            "PINNED",
            {"toy==1.0": archives.Archive("0" * 64, {"dev.json": digest, "same.json": "aa"}, 1)},
        )
        return sources.fingerprint({"source": "archive:toy==1.0/dev.json", "paragraphs": 3})

    monkeypatch.setattr(archives, "member", lambda reference: pytest.fail("fetched"))
    assert pin("aa") == sources.fingerprint(
        {"source": "archive:toy==1.0/same.json", "paragraphs": 3}
    )
    assert pin("aa") != pin("bb")


def test_fingerprint_of_generated_facts_says_split_and_selection():
    described = [
        {"source": f"facts:{split}", **more}
        for split in synthetic.SPLITS
        for more in ({}, {"paragraphs": 3}, {"facts": 3}, {"seed": 3}, {"languages": ["en", "zh"]})
    ]
    assert len({sources.fingerprint(dataset) for dataset in described}) == 5 * len(synthetic.SPLITS)


def test_archive_members_are_read_as_files(
    squad: dict, save: Callable, home: Path, monkeypatch: pytest.MonkeyPatch
):
    content = save(squad).read_bytes()
    pinned = archives.Archive("0" * 64, {"dev.json": hashlib.sha256(content).hexdigest()}, 1)
    monkeypatch.setattr(archives, "PINNED", {"toy==1.0": pinned})
    path = home / "downloads" / "toy==1.0" / "dev.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert (
        data_squad.load({"source": "archive:toy==1.0/dev.json"}).questions
        == data_squad.parse(squad, "mine", "en").questions
    )


@pytest.fixture
def mlqa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict]:
    """Describes a file of an MLQA folder, and writes it with `count` questions first."""

    def write(split: str, context: str, question: str, count: int) -> dict:
        (tmp_path / split).mkdir(exist_ok=True)
        qas = [
            {"id": str(i), "question": "¿?", "answers": [{"text": "Belu", "answer_start": 0}]}
            for i in range(count)
        ]
        content = {"data": [{"title": "t", "paragraphs": [{"context": "Belu.", "qas": qas}]}]}
        (tmp_path / split / f"{split}-context-{context}-question-{question}.json").write_text(
            json.dumps(content), encoding="utf-8"
        )
        return {
            "source": f"mlqa:{tmp_path}",
            "split": split,
            "context": context,
            "question": question,
        }

    return write


def test_mlqa_is_read_from_its_folder_in_the_language_of_the_context(mlqa: Callable):
    questions = data_squad.load(mlqa("dev", "de", "de", 512)).questions
    assert len(questions) == 512 and {question.language for question in questions} == {"de"}
    assert {
        question.language for question in data_squad.load(mlqa("test", "zh", "hi", 3)).questions
    } == {"zh"}
    assert sources.languages(
        {"source": "mlqa:x", "split": "dev", "context": "vi", "question": "en"}
    ) == ["vi"]


def test_mlqa_of_another_size_is_not_the_official_one(mlqa: Callable):
    with pytest.raises(
        StudyError,
        match=r"test-context-hi-question-hi\.json holds 5 questions, the official set 4918",
    ):
        data_squad.load(mlqa("test", "hi", "hi", 5))


@pytest.mark.parametrize(
    ("key", "value"), [("split", "train"), ("context", "fr"), ("question", None)]
)
def test_a_part_of_mlqa_that_is_not_there_is_refused(key: str, value: object, mlqa: Callable):
    with pytest.raises(StudyError, match=f"{key} must be one of"):
        sources.fingerprint(mlqa("dev", "de", "en", 1) | {key: value})


@pytest.mark.parametrize("language", ["ar", "de", "en", "es", "hi", "vi", "zh"])
def test_xquad_is_read_whole_in_every_script(language: str):
    if not XQUAD.is_dir():
        pytest.skip("needs the XQuAD files")
    loaded = data_squad.load(
        {"source": f"path:{XQUAD}/xquad.{language}.json", "language": language}
    )
    assert (
        len(loaded.questions) == 1190
        and len({question.article for question in loaded.questions}) == 48
    )


@pytest.mark.skipif(
    not SHIFTS.is_dir(), reason="the SQuADShifts files lie beside the checkout only"
)
@pytest.mark.parametrize(
    ("name", "count", "shifted"),
    [("squaddev_v1.1", 10565, 15), ("new_wiki_v1.0", 7936, 8), ("nyt_v1.0", 10056, 10)],
)
def test_published_files_are_read_whole(name: str, count: int, shifted: int):
    path = SHIFTS / f"{name}.json"
    loaded = data_squad.parse(json.loads(path.read_text(encoding="utf-8")), str(path), "en")
    assert (len(loaded.questions), loaded.shifted) == (count, shifted)
    assert all(
        q.context.startswith(text, start) for q in loaded.questions for text, start in q.answers
    )


@pytest.mark.parametrize(
    ("count", "message"),
    [(5, "holds 5 questions, the official set 10570"), (10571, "holds 10571 questions")],
)
def test_a_set_that_is_declared_official_is_counted(count: int, message: str, save: Callable):
    qas = [
        {"id": str(i), "question": "?", "answers": [{"text": "Belu", "answer_start": 0}]}
        for i in range(count)
    ]
    path = save({"data": [{"title": "t", "paragraphs": [{"context": "Belu.", "qas": qas}]}]})
    assert len(data_squad.load({"source": f"path:{path}"}).questions) == count
    with pytest.raises(StudyError, match=message):
        data_squad.load({"source": f"path:{path}", "official": "squad-dev"})


def test_official_counts_are_mlqas_and_squads():
    """All that the two projects publish: SQuAD v1.1 and MLQA's README."""
    assert sources.OFFICIAL["squad-train"] == 87599 and sources.OFFICIAL["squad-dev"] == 10570
    assert [
        sources.OFFICIAL[f"mlqa-dev-{language}"]
        for language in ("en", "de", "es", "ar", "zh", "vi", "hi")
    ] == [
        1148,
        512,
        500,
        517,
        504,
        511,
        507,
    ]
    tests = [
        sources.OFFICIAL[f"mlqa-test-{language}"]
        for language in ("en", "de", "es", "ar", "zh", "vi", "hi")
    ]
    assert tests == [11590, 4517, 5254, 5335, 5137, 5495, 4918]


def test_all_pairs_of_mlqa_can_be_described(mlqa: Callable):
    pairs = [(c, q) for c in sources.MLQA for q in sources.MLQA]
    assert len(pairs) == 49
    digests = {sources.fingerprint(mlqa("dev", c, q, 1)) for c, q in pairs}
    assert len(digests) == 49  # each its own selection of its own file


def test_contexts_can_be_their_own_articles(save: Callable):
    """A file that keeps everything under one title, as SQuADShifts' Reddit does."""
    qas = [
        {"id": str(i), "question": "?", "answers": [{"text": "Belu", "answer_start": 0}]}
        for i in range(4)
    ]
    path = save(
        {
            "data": [
                {
                    "title": "all",
                    "paragraphs": [
                        {"context": f"Belu {i}", "qas": qas[2 * i : 2 * i + 2]} for i in range(2)
                    ],
                }
            ]
        }
    )
    assert len({q.article for q in data_squad.load({"source": f"path:{path}"}).questions}) == 1
    held_out = data_squad.load(
        {"source": f"path:{path}", "articles": "contexts", "part": "dev", "dev_articles": 1}
    ).questions
    assert len(held_out) == 2 and held_out[0].article == held_out[1].article


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("mlqa:data", True),
        (f"hub:facebook/mlqa@{'a' * 40}", True),
        ("hub:rajpurkar/squad", False),
        ("path:mlqa.json", False),
    ],
)
def test_mlqa_is_known_by_its_source(source: str, expected: bool):
    assert sources.is_mlqa({"source": source}) == expected
    assert sources.is_mlqa({"source": source, "official": "mlqa-test-en"})


def test_the_hubs_mlqa_speaks_the_language_of_its_folders_contexts():
    described = {"source": f"hub:facebook/mlqa@{'a' * 40}", "folder": "mlqa.zh.de", "split": "test"}
    assert sources.languages(described) == ["zh"] and sources.languages(
        described | {"language": "hi"}
    ) == ["hi"]
    assert sources.languages(described | {"folder": "other"}) == ["en"]


def test_a_paragraphs_own_word_on_its_language_counts_in_generated_sets_only(save: Callable):
    paragraph = {
        "context": "Belu.",
        "language": "English",
        "qas": [LINE | {"answers": [{"text": "Belu", "answer_start": 0}]}],
    }
    path = save({"data": [{"title": "t", "paragraphs": [paragraph]}]})
    assert (
        data_squad.load({"source": f"path:{path}", "language": "de"}).questions[0].language == "de"
    )


COMMIT = "a" * 40
README = (
    b"---\nconfigs:\n- config_name: plain_text\n  data_files:\n  - {split: train, path:"
    b" plain_text/train-*}\n---\n"
)


def table(*rows: dict) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), buffer)
    return buffer.getvalue()


ROW = LINE | {"answers": {"text": ["Belu"], "answer_start": [0]}}
BROKEN = "someone/broken"  # what comes is not what was published
HUB = {
    "rajpurkar/squad": {
        "README.md": README,
        "plain_text/train-00000-of-00001.parquet": table(ROW | {"title": "Sado"}),
    },
    "facebook/mlqa": {
        "mlqa.de.en/test/0000.parquet": table(ROW, ROW | {"id": "2"}),
        "mlqa.de.en/validation/0000.parquet": table(ROW),
    },
    BROKEN: {"train/0000.parquet": table(ROW)},
}


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub's interface as `datasets` asks for."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path, _, repository = self.path.partition("?")[0].replace("%2F", "/"), "", ""
        repository = next((name for name in HUB if f"/datasets/{name}/" in path), "")
        files, rest = HUB.get(repository, {}), path.partition(f"/datasets/{repository}/")[2]
        verb, _, rest = rest.partition("/")
        commit, _, name = rest.partition("/")
        if verb == "revision":
            return self.reply(
                json.dumps(
                    {
                        "id": repository,
                        "sha": commit,
                        "siblings": [{"rfilename": file} for file in files],
                    }
                ).encode()
            )
        if verb == "tree":
            return self.reply(json.dumps(self.listed(files, name)).encode())
        if verb == "resolve" and name in files:
            published = b"something else" if repository == BROKEN else files[name]
            digest = hashlib.sha1(
                b"blob %d\0" % len(published) + published
            ).hexdigest()  # as git has it
            return self.reply(files[name], ("ETag", f'"{digest}"'), ("X-Repo-Commit", commit))
        return self.reply(b"{}", ("X-Error-Code", "EntryNotFound"), status=404)

    do_HEAD = do_GET

    def listed(self, files: dict[str, bytes], folder: str) -> list[dict]:
        below = [
            name.removeprefix(f"{folder}/")
            for name in files
            if not folder or name.startswith(f"{folder}/")
        ]
        start = f"{folder}/" if folder else ""
        if "recursive=true" in self.path.lower():
            kinds = dict.fromkeys(below, "file")
        else:
            kinds = {
                place.partition("/")[0]: "directory" if "/" in place else "file" for place in below
            }
        return [
            {
                "type": kind,
                "path": start + place,
                "size": len(files.get(start + place, b"")),
                "oid": "0" * 40,
            }
            for place, kind in kinds.items()
        ]

    def reply(self, body: bytes, *headers: tuple[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in (("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[dict]:
    """The environment of a process that takes this machine for the hub."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        environment = {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "0",
        }
        yield os.environ | environment
        server.shutdown()


READ = """
import sys, json
from studylib.data import squad
from studylib.core.errors import StudyError
for described in json.loads(sys.argv[1]):
    try:
        asked = squad.load(described).questions
        print(json.dumps([[q.id, q.article, q.language, q.answers] for q in asked]))
    except StudyError as error:
        print(error)
"""


@pytest.mark.slow
def test_the_hub_is_read_by_datasets_at_a_commit(hub: dict):
    mlqa = {
        "source": f"hub:facebook/mlqa@{COMMIT}",
        "folder": "mlqa.de.en",
        "split": "test",
        "language": "de",
    }
    squad = {"source": "hub:rajpurkar/squad", "split": "train"}
    described = [squad, mlqa, squad | {"official": "squad-train"}, squad | {"split": "nowhere"}]
    run = subprocess.run(
        [sys.executable, "-c", READ, json.dumps(described)],
        env=hub,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    first, second, counted, refused = run.stdout.splitlines()
    assert json.loads(first) == [["1", "Sado", "en", [["Belu", 0]]]]
    assert [(i, language) for i, _, language, _ in json.loads(second)] == [("1", "de"), ("2", "de")]
    assert (
        counted == "hub:rajpurkar/squad holds 1 questions, the official set 87599: fetch it again."
    )
    assert (
        refused.startswith("hub:rajpurkar/squad could not be read (")
        and "nowhere" in refused
        and refused.endswith("check the network, split and folder.")
    )


@pytest.mark.slow
def test_what_is_not_what_the_hub_published_is_refused_and_nothing_made_of_it_is_kept(hub: dict):
    described = {"source": f"hub:{BROKEN}@{COMMIT}", "split": "train"}
    run = subprocess.run(
        [sys.executable, "-c", READ, json.dumps([described] * 2)],
        env=hub,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    messages = run.stdout.splitlines()
    assert len(messages) == 2 and all(
        "0000.parquet is not what the hub published (its digest differs): delete " in message
        for message in messages
    )
    assert not list((Path(hub["HF_HOME"]) / "datasets").rglob("*.arrow"))


@pytest.mark.slow
def test_without_a_network_the_hub_is_named(tmp_path: Path):
    described = json.dumps([{"source": f"hub:me/mine@{COMMIT}", "split": "train"}])
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", READ, described],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (
        run.stdout.startswith(f"hub:me/mine@{COMMIT} could not be read (")
        and run.stdout.count("\n") == 1
    )


SHIFTED = {
    "reddit_v1.0": (9767, 22, {"articles": "contexts"}),
    "amazon_reviews_v1.0": (9877, 947, {"offsets": "nearest"}),
}


@pytest.mark.small
@pytest.mark.parametrize("name", SHIFTED)
def test_all_of_squadshifts_can_be_read(name: str):
    """The two members that are not beside the checkout; the archive must have been fetched."""
    reference, (count, shifted, more) = f"bigbench==1.0.0/{name}.json", SHIFTED[name]
    if archives.missing(reference):
        pytest.skip("needs the bigbench archive")
    loaded = data_squad.load({"source": f"archive:{reference}", **more})
    assert (len(loaded.questions), loaded.shifted) == (count, shifted)


def test_a_file_that_memory_cannot_hold_is_refused_before_it_is_read(tmp_path, monkeypatch):
    """Nor is its digest computed, which would take hours."""
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(10**12)
    monkeypatch.setattr(sources, "file_digest", lambda path: pytest.fail("read"))
    for read in (sources.fingerprint, sources.content):
        with pytest.raises(
            StudyError,
            match=r"large\.json takes about 10000\.0 GB of memory to be read, there are ",
        ):
            read({"source": f"path:{tmp_path / 'large.json'}"})
