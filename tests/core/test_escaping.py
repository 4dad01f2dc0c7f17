"""Text of data and files steers neither the terminal nor the page, and legal text is shown as it
is."""

import json
import shutil
import subprocess
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from studylib.app import doctor, explore, notebooks, report
from studylib.app.cli import main
from studylib.core import escaping, filesystem
from studylib.store import store as store_store

STEERING = "\x1b[2J\x1b]8;;http://elsewhere.example\x1b\\link\x07\x9b31m\u202e\u2066\u200f\x7f\r"
HINDI = "क्\u200dष 你好\u3000می\u200cخواهم"


def steers(text: str) -> set[str]:
    """The characters of a text that a terminal would not show but obey."""
    kinds = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    return {char for char in text if unicodedata.category(char) in kinds} - {
        "\n",
        "\t",
        *escaping.JOINERS,
    }


@pytest.fixture
def hostile(squad: dict, save: Callable, params_file: Callable) -> str:
    """A YAML whose test set steers in all its texts."""
    context = f"{STEERING} Kamo lives in Tiru{STEERING}. {HINDI}"
    answer = f"Tiru{STEERING}"
    item = {"id": f"q1{STEERING}\n═══ q2", "question": f"Where? {STEERING}"}
    item["answers"] = [{"text": answer, "answer_start": context.index(answer)}]
    squad["data"] = [
        {"title": f"Kamo{STEERING}", "paragraphs": [{"context": context, "qas": [item]}]}
    ]
    return params_file(tests={"mine": {"source": f"path:{save(squad)}"}})


def test_prompts_are_shown_without_steering_the_terminal(
    hostile: str, capsys: pytest.CaptureFixture
):
    for mode in ("zero-shot", "one-shot"):
        assert main(["data", "show", f"{hostile}/mine", "--prompt", mode]) == 0
        shown = capsys.readouterr().out
        assert (
            not steers(shown)
            and r"\x1b]8;;http://elsewhere.example\x1b" in shown
            and r"\u202e\u2066\u200f" in shown
        )
        assert HINDI in shown, "what spells words stays"
        assert [line for line in shown.splitlines() if line.startswith("═══")] == [
            shown.splitlines()[0]
        ], "an id ends no line"


def test_why_a_run_failed_is_shown_on_one_line(
    hostile: str, capsys: pytest.CaptureFixture, home: Path
):
    (job,) = notebooks.jobs(hostile)
    store = store_store.Store()
    first = job.plan.runs[0]
    filesystem.write_json(
        store.folder(first) / "error.json", {"error": f"Boom {STEERING}\n  done  all of it"}
    )
    assert main(["status", hostile]) == 0
    shown = capsys.readouterr().out
    assert not steers(shown) and r"(Boom \x1b[2J" in shown and r"\r\n  done  all of it)" in shown
    assert all(
        r"\r\n  done  all of it)" in line for line in doctor.unfinished(store) if "Boom" in line
    )


def test_a_strange_manifest_is_shown_without_steering_the_terminal(
    home: Path, capsys: pytest.CaptureFixture
):
    folder = store_store.Store().root / "teacher" / ("a" * 24)
    needs = {"base": {"input": f"path:{STEERING}", "digest": STEERING}}
    filesystem.write_json(
        folder / "manifest.json",
        {"kind": "teacher", "label": f"{STEERING}\nstudent", "needs": needs},
    )
    assert main(["show", "aaaa"]) == 0
    shown = capsys.readouterr().out
    assert (
        not steers(shown)
        and json.loads(shown.partition("\n\n")[0].replace(r"\x", r"\u00"))["kind"] == "teacher"
    )


def test_tokens_are_shown_without_steering(capsys: pytest.CaptureFixture):
    assert not steers(explore._code(f"a{STEERING}\n|")) and explore._code("a|`b\n") == "`a¦'b⏎`"


def test_text_from_outside_cannot_break_a_card():
    assert escaping.markdown("a | b\n# `c` <script>") == "a \\| b # 'c' &lt;script>"
    assert escaping.markdown(f"a{STEERING}b") == f"a{escaping.printable(STEERING[:-1])} b"


def test_the_pages_program_shows_text_without_steering():
    """Its own lines, run where Node is."""
    node = shutil.which("node") or pytest.skip("needs Node")
    page = (Path(report.__file__).parent / "report.html").read_text(encoding="utf-8")
    program = "\n".join(
        line for line in page.splitlines() if line.startswith(("const escaped =", "const seen ="))
    )
    given = json.dumps(f"{STEERING}\u2028\ud800\n{HINDI}")
    done = subprocess.run(
        [node, "-e", f"{program}\nconsole.log(JSON.stringify(seen({given})))"],
        capture_output=True,
        text=True,
        check=True,
    )
    shown = json.loads(done.stdout)
    assert (
        not steers(shown)
        and r"\u{1b}[2J\u{1b}]8;;" in shown
        and r"\u{2028}\u{d800}" in shown
        and shown.endswith(f"\n{HINDI}")
    )
