"""The report holds what was exported and nothing that runs but its own filter; opened without a
network in a real browser, where there is one."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from invented import FREE
from miniatures import chosen, planned, prompted, stages

from studylib.analysis import (
    conclusions,
    contrasts,
    cost,
    figures,
    retention,
    tables,
    teacher_sizes,
)
from studylib.app import notebooks, report, study
from studylib.app.notebooks import Job
from studylib.core import project, versions
from studylib.core.errors import StudyError
from studylib.core.project import root
from studylib.experiments.plans import Plan
from studylib.store import output_folder
from studylib.store.store import Store

pytestmark = pytest.mark.slow

COMMITTED = [job for job in notebooks.jobs("small") if job.folder.exists()]
EVIL = "<script>document.title = 'broken'</script> & </script>"


def write_test_set(place: Path) -> None:
    """Write a paragraph and two questions that would rather be a program."""
    qas = [
        {
            "id": "q1",
            "question": f"Where does Kamo live? {EVIL}",
            "answers": [{"text": "Tiru", "answer_start": 14}],
        },
        {
            "id": "q2",
            "question": "Who lives in Tiru?",
            "answers": [{"text": "Kamo", "answer_start": 0}],
        },
    ]
    paragraph = {"context": f"Kamo lives in Tiru. {EVIL}", "qas": qas}
    articles = [{"title": EVIL, "paragraphs": [paragraph]}]
    (place / "test.json").write_text(json.dumps({"data": articles}))


def export_capacity_gap(plan: Plan, store: Store, where: Path) -> None:
    """Export what the notebook of the capacity gap shows, with an answer that would rather be a
    program."""
    rows, learned = study.rows(plan, store), study.curves(plan, store)
    kept, gained = retention.compare(rows), contrasts.contrasts(rows)
    texts = {
        "table": tables.table(kept),
        "conclusion": conclusions.capacity_conclusion(kept, gained, FREE, "zero-shot"),
        "answer": f"Yes & no. {EVIL}",
    }
    timing = study.timing(plan, rows, store)
    exported = {"learning": learned, "runs": study.origins(plan, store), "timing": timing}
    drawn = figures.capacity_gap(
        kept,
        retention.by_seed(rows),
        cost.pareto(timing),
        teacher_sizes.sweep(rows),
        learned,
        "zero-shot",
    )
    study.export(where, rows, exported, texts, drawn)


@pytest.fixture(scope="module")
def folder(raw: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a miniature study on a text that would rather be a program, without and with the
    store."""
    place = tmp_path_factory.mktemp("report")
    write_test_set(place)
    plan, store = small(raw, place), Store(place / "home")
    study.complete(plan, store)
    export_capacity_gap(plan, store, place / "capacity_gap")
    job = Job(
        root() / "notebooks" / "capacity_gap.ipynb", "mini", {"sizes": [2], "note": EVIL}, plan
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(project, "figures_folder", lambda profile, notebook: place / notebook)
        written = report.write([job], Store(place / "empty"))
        shutil.copy(written, place / "exported.html")
        report.write([job], store)
    return place


def test_an_experiment_that_exported_nothing_is_refused(
    folder: Path, raw: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(project, "figures_folder", lambda profile, notebook: folder / notebook)
    job = Job(root() / "notebooks" / "teacher_choice.ipynb", "mini", {}, small(raw, folder))
    with pytest.raises(StudyError, match="`study run` it first"):
        report.write([job], Store(folder / "home"))


def test_the_page_holds_everything_itself_and_text_stays_text(folder: Path):
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.count("<script>") == 1 and page.count("</script>") == 2 and EVIL not in page
    assert not any(
        f'{way}="{scheme}' in page for way in ("src", "href") for scheme in ("http", "/", "file")
    )
    assert (
        page.count("data:image/svg+xml;base64,") == 3 == page.count("<img ")
        and 'alt="F1 kept of the teacher against' in page
    )
    content = json.loads(page.partition('id="answer-data">')[2].partition("</script>")[0])
    assert content["questions"][0]["question"].endswith(EVIL) and content["contexts"] == [
        f"Kamo lives in Tiru. {EVIL}"
    ]
    assert [
        content["models"][model].partition(",")[0]
        for model, _ in content["questions"][0]["answers"]
    ] == ["mini", "mini-2", "mini-2"]


def test_every_line_of_a_table_and_every_figure_leads_to_runs_that_are_listed(folder: Path):
    page = (folder / "exported.html").read_text(encoding="utf-8")
    listed = re.findall(r'<tr id="run-(\w{12})">', page)
    assert len(set(listed)) == len(listed) == len(pd.read_csv(folder / "capacity_gap" / "runs.csv"))
    shown, *_ = page.partition('id="capacity_gap-table"')[2].partition("</table>")
    lines, kept = shown.split("<tr>")[2:], pd.read_csv(folder / "capacity_gap" / "retention.csv")
    assert [" ".join(re.findall(r'<a href="#run-(\w+)">', line)) for line in lines] == list(
        kept.runs
    ) and kept.runs.notna().all()
    captions = re.findall(r"<figcaption>.*?</figcaption>", page, flags=re.DOTALL)
    for name, caption in zip(("retention", "cost", "learning"), captions, strict=True):
        drawn = pd.read_csv(folder / "capacity_gap" / f"{name}.csv")
        named = drawn.run.str[:12] if name == "learning" else drawn.runs.str.split().explode()
        assert set(re.findall(r'href="#run-(\w+)"', caption)) == set(named) <= set(listed)


def test_without_the_store_all_is_there_but_the_answers(folder: Path):
    whole, shown = (
        (folder / name).read_text(encoding="utf-8") for name in ("report.html", "exported.html")
    )
    assert 'id="answers"' in whole and 'id="answers"' not in shown
    rest = whole.replace(' · <a href="#answers">Answers side by side</a>', "").partition(
        '<section id="answers">'
    )[0]
    assert shown.startswith(rest.rstrip())


def test_a_data_set_that_was_changed_since_lends_no_fingerprint(
    folder: Path, raw: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What is shown was computed on the old file."""
    shutil.copytree(folder / "capacity_gap", tmp_path / "mini" / "capacity_gap")
    monkeypatch.setattr(project, "figures_folder", lambda _, name: tmp_path / "mini" / name)
    for text, changed in ((EVIL, False), ("Another text.", True)):
        file = tmp_path / "test.json"
        file.write_text(
            (folder / "test.json")
            .read_text()
            .replace(json.dumps(EVIL)[1:-1], json.dumps(text)[1:-1])
        )
        tests = {"near": {"source": f"path:{file}"}}
        plan = planned(raw, sizes=[2], from_base=[], eval_prompts=["zero-shot"], tests=tests)
        job = Job(root() / "notebooks" / "capacity_gap.ipynb", "mini", {}, plan)
        page = report.write([job], Store(tmp_path / "empty")).read_text(encoding="utf-8")
        assert (plan.tests[0].digest[:12] in page) != changed and page.count(
            report.CHANGED
        ) == changed
        assert plan.train.digest[:12] in page and plan.dev.digest[:12] in page


def cut_off(file: Path) -> None:
    """The first third of it."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])


@pytest.mark.parametrize(
    "name", ["answer.md", "retention.csv", "rows.parquet", "runs.csv", "retention.svg", "table.md"]
)
@pytest.mark.parametrize("change", [Path.unlink, cut_off])
@pytest.mark.parametrize("digests", [True, False], ids=["digests", "no digests"])
def test_what_no_notebook_writes_is_refused_in_a_sentence(
    name: str,
    change: Callable,
    digests: bool,
    folder: Path,
    raw: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    shown = shutil.copytree(folder / "capacity_gap", tmp_path / "mini" / "capacity_gap")
    monkeypatch.setattr(project, "figures_folder", lambda _, name: tmp_path / "mini" / name)
    job = Job(root() / "notebooks" / "capacity_gap.ipynb", "mini", {}, small(raw, folder))
    assert report.write([job], Store(tmp_path / "empty")).exists()
    (tmp_path / "mini" / "report.html").unlink()
    change(shown / name)
    if not digests:
        (shown / output_folder.DIGESTS).unlink()
    try:
        report.write([job], Store(tmp_path / "empty"))
    except StudyError as error:
        assert name in str(error) or f"{tmp_path / 'mini'} is not what notebooks write" in str(
            error
        )
        assert not (tmp_path / "mini" / "report.html").exists()
    else:  # what can be left out is
        left_out = name in ("runs.csv", "table.md", "retention.svg") and change is Path.unlink
        shorter = name in ("runs.csv", "answer.md") and change is cut_off and not digests
        assert left_out or shorter


def small(raw: str, folder: Path) -> Plan:
    """The plan of the report above."""
    tests = {"near": {"source": f"path:{folder / 'test.json'}"}}
    return planned(raw, sizes=[2], from_base=[], eval_prompts=["zero-shot"], tests=tests)


def test_what_is_somebody_s_own_is_neither_shown_nor_replaced(
    folder: Path, raw: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shown = shutil.copytree(folder / "capacity_gap", tmp_path / "mini" / "capacity_gap")
    monkeypatch.setattr(project, "figures_folder", lambda _, name: tmp_path / "mini" / name)
    (shown / "my_plot.svg").write_text("<svg/>")
    (shown / "notes.md").write_text("mine")
    job = Job(root() / "notebooks" / "capacity_gap.ipynb", "mini", {}, small(raw, folder))
    assert (
        report.write([job], Store(tmp_path / "empty")).read_text().count("<figure>")
        == len([*shown.glob("*.svg")]) - 1
    )
    (tmp_path / "mini" / "report.html").write_text("<title>mine</title>")
    with pytest.raises(
        StudyError,
        match=r"report\.html would be replaced, and is no report of the study: move it away\.",
    ):
        report.write([job], Store(tmp_path / "empty"))


def test_what_earlier_versions_made_is_marked(
    folder: Path, raw: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(folder / "capacity_gap", tmp_path / "mini" / "capacity_gap")
    monkeypatch.setattr(project, "figures_folder", lambda _, name: tmp_path / "mini" / name)
    before = versions.VERSIONS["training"]
    for today, how in (
        (before, ""),
        (before + 1, f"made with training {before}, today {before + 1}"),
    ):
        monkeypatch.setitem(versions.VERSIONS, "training", today)
        plan = small(raw, folder)
        page = report.write(
            [Job(root() / "notebooks" / "capacity_gap.ipynb", "mini", {}, plan)],
            Store(tmp_path / "empty"),
        ).read_text()
        trained = [run for run in plan.runs if "training" in run.versions]
        assert page.count(f"({how})</td>") == (len(trained) if how else 0)
        assert page.count(f"answers of all models ({how})") == bool(how)


def swept(raw: str) -> Plan:
    return planned(
        raw,
        sizes=[4, 3, 2],
        alternative={"sizes": [2], "stages": stages(reverse_kl=1.0)},
        teacher_sizes=[2, 3, 4],
    )


@pytest.mark.parametrize("plan", [planned, swept, chosen, prompted])
def test_models_that_answer_the_same_have_unlike_names(plan: Callable, raw: str):
    names = [
        (report._model(asked.called), asked.called["test_set"], asked.called["eval_prompt"])
        for asked in plan(raw).asked
    ]
    assert len(set(names)) == len(names)


def test_every_line_of_the_headline_has_its_runs_where_students_learn_otherwise_too(
    raw: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Tables are exported without arms: those of other losses and other teachers come from the
    plan."""
    plan = swept(raw)
    kept = pd.DataFrame(
        [asked.called | {"runs": f"{number}"} for number, asked in enumerate(plan.asked)]
    )
    kept.drop(columns="arm").to_csv(tmp_path / "retention.csv", index=False)
    monkeypatch.setattr(project, "figures_folder", lambda *_: tmp_path)
    job = Job(root() / "notebooks" / "capacity_gap.ipynb", "mini", {}, plan)
    shown = tables.main(kept.assign(arm=kept.arm.fillna(kept.role)))
    assert {"student", "control", "teacher"} == {*shown.role} and len(shown) < len(kept) - 3
    assert list(report._lines(job, "headline").runs.map(str)) == list(shown.runs)


@pytest.mark.parametrize("job", COMMITTED, ids=lambda job: job.notebook.stem)
def test_all_that_an_experiment_exported_has_its_place(job: Job):
    shown, folder = report.section(job), study.folder("small", job.notebook.stem)
    assert {"answer", "conclusion", *(name for name, _, _ in shown["tables"])} == {
        file.stem for file in folder.glob("*.md")
    }
    assert sorted(shown["figures"]) == sorted(folder.glob("*.svg")) and shown["tables"][0][0] in (
        "headline",
        "table",
    )


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1200])
def test_a_browser_shows_it_whole_without_a_network(
    browser: Any, folder: Path, width: int, scheme: str
):
    page = browser.new_page(
        viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True
    )
    complaints = []
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((folder / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    drawn = page.evaluate("[...document.images].map((image) => [image.naturalWidth, image.alt])")
    assert len(drawn) == 3 and all(wide > 0 and words for wide, words in drawn)
    assert "broken" not in page.title() and "<script>" in page.inner_text("#list")
    assert (
        page.evaluate("getComputedStyle(document.body).backgroundColor")
        == {
            "light": "rgb(255, 255, 255)",
            "dark": "rgb(22, 24, 26)",
        }[scheme]
    )
    assert page.locator(".asked").count() == 2
    page.fill("#words", "who LIVES")
    assert page.locator(".asked").count() == 1 and "1 question" in page.inner_text("#count")
    page.fill("#words", "no such words")
    assert page.locator(".asked").count() == 0
    assert len(page.pdf()) > 10_000 and complaints == []
    page.emulate_media(media="print")
    assert (
        page.locator("#capacity_gap details p").first.is_visible()
        and not page.locator("#answers").is_visible()
    )
    page.close()


ASKED = [  # test set, question, and what two models answer; a third answers as the first
    ("near", "Who?", "Ada", "Ada"),
    ("near", "Where?", "Rome", "Oslo"),
    ("far", "When?", "May", "June"),
    ("far", "Why?", "x", ""),
]


@pytest.fixture
def page(browser: Any, folder: Path) -> Iterator[Any]:
    """The report in a browser, with the answers above in the place of its own."""
    questions = [
        {
            "set": name,
            "article": "A",
            "question": question,
            "context": 0,
            "gold": ["g"],
            "answers": [[0, first], [1, second], [2, first]],
        }
        for name, question, first, second in ASKED
    ]
    before, mark, rest = (
        (folder / "report.html").read_text(encoding="utf-8").partition('id="answer-data">')
    )
    content = json.dumps(
        {"contexts": ["A text."], "models": ["one", "two", "three"], "questions": questions}
    )
    (folder / "filter.html").write_text(
        f"{before}{mark}{content}</script>{rest.partition('</script>')[2]}", encoding="utf-8"
    )
    opened = browser.new_page(offline=True)
    opened.goto((folder / "filter.html").as_uri())
    yield opened
    opened.close()


def questions_shown(page: Any) -> list[str]:
    return page.locator(".asked h3").all_inner_texts()


@pytest.mark.browser
def test_the_filter_knows_test_sets_and_unlike_answers(page: Any):
    assert page.locator("#set option").all_inner_texts() == ["near", "far"]
    assert questions_shown(page) == ["Who?", "Where?"]
    page.check("#unlike")
    assert questions_shown(page) == ["Where?"]
    page.select_option("#right", "2")
    assert questions_shown(page) == [], "one and three say the same"
    assert page.inner_text("#count") == "0 questions"
    page.select_option("#set", "far")
    assert questions_shown(page) == []
    assert page.locator("#right").input_value() == "2", "the choice stays"
    page.select_option("#right", "1")
    assert questions_shown(page) == ["When?", "Why?"]
    pairs = page.locator(".pair").all_inner_texts()
    assert pairs[1].split("\n")[-1] == "two: (no answer)"
    places = page.evaluate(
        "[...document.querySelector('.pair').children].map((one) =>"
        " one.getBoundingClientRect().top)"
    )
    assert places[0] == places[1], "side by side"
    page.fill("#words", "june")
    assert questions_shown(page) == ["When?"]
    assert "two: June" in page.inner_text("#list")
    assert page.inner_text("#count") == "1 question"
