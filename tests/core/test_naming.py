"""A name is plain text wherever it is shown, in whatever script, and one that could not be is
refused before anything is computed."""

import pytest
import yaml

from studylib.app.cli import main
from studylib.core import escaping, naming, sizes
from studylib.core.errors import StudyError

SCRIPTS = [
    "Qwen2.5 7B",
    "SmolLM2-135M Q4_1",
    "学生模型",
    "हिन्दी मॉडल",
    "نموذج عربي",
    "модель",
    "001",
    "NA",
    "a: b",
    "in/out",
    "R&D snake_case_name",
    "x" * 100,
]
REFUSED = {
    "nothing": "",
    "a blank": " ",
    "a carriage return": "a\rb",
    "a line break": "a\nb",
    "an escape sequence": "a\x1b[31mb",
    "a control character of 8 bits": "a\x9b31mb",
    "a link of the terminal": "a\x1b]8;;http://elsewhere.example\x1b\\b",
    "letters from right to left": "a\u202eb",
    "a mark of direction": "a\u200fb",
    "an isolate": "a\u2067b",
    "a line separator": "a\u2028b",
    "an invisible character": "a\u200bb",
    "half of a pair": "a\ud800",
    "a formula": "=1+1",
    "a formula by a sign": "+1",
    "a formula by a minus": "-1",
    "a formula by an at sign": "@SUM(A1)",
    "a formula in full width": "\uff1d1",
    "what legends leave out": "_mine",
    "a blank first": " a",
    "a blank last": "a ",
    "a sign of Markdown": "a|b",
    "an escape of Markdown": "a\\.b",
    "emphasis": "a _b_ c",
    "strong emphasis at its end": "a __b__",
    "struck text": "a ~~b~~",
    "an entity": "a &amp; b",
    "a numbered entity": "a&#124;b",
    "an address": "a http://elsewhere.example",
    "an address that Markdown completes": "a www.elsewhere.example",
    "mathematics": "$x$",
    "an accent alone": "\u0301a",
    "more than can be read": "x" * 101,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_letters_of_every_script_are_a_name(name):
    naming.check(name, "families")


@pytest.mark.parametrize("name", REFUSED.values(), ids=REFUSED)
def test_what_would_be_more_than_text_is_no_name_of_anything(name, tmp_path, capsys):
    with pytest.raises(
        StudyError,
        match=r"^families: '.*' cannot be a name in tables: write up to 100 visible characters",
    ):
        naming.check(name, "families")
    with pytest.raises(StudyError, match="is no size of a student"):
        sizes.size(name)
    if name.isascii() or name.isprintable():  # what YAML takes
        for given in (
            {"families": {name: "tiny:qwen2"}},
            {"data": {"tests": {name: {"source": "facts:test"}}}},
        ):
            (tmp_path / "capacity_gap.yaml").write_text(yaml.safe_dump(given), encoding="utf-8")
            assert main(["status", str(tmp_path / "capacity_gap.yaml")]) == 2
            shown = capsys.readouterr().err
            assert (
                "cannot be a name in tables" in shown
                and shown.count("\n") == 1
                and "\r" not in shown
            )


@pytest.mark.parametrize("name", ["Small", "Qwen2.5 3B", "हिन्दी", "学生", "a_b"])
def test_siblings_are_named_in_every_script(name):
    assert sizes.size(name).sibling == name
    assert sizes.named(sizes.name("a-b", name)).sibling == name


def test_a_size_names_layers_neurons_and_tokens():
    assert sizes.size("24x768v16384") == sizes.Size(24, 768, 16384)
    assert sizes.size("24v16384") == sizes.Size(24, None, 16384)
    assert sizes.size("27>24x768v9") == sizes.Size(24, 768, 9, "27")
    whole, fewer = sizes.size("24x768"), sizes.size("24x768v9")
    assert whole.holds(fewer) and not fewer.holds(whole)
    assert (whole.way, fewer.way) == ("layers and neurons", "layers and neurons and vocabulary")
    assert fewer.title == "24 layers of 768 neurons, 9 tokens"


@pytest.mark.parametrize("name", ["24x768v", "24v0", "24v9x768", "24x768v9v9"])
def test_other_ways_to_write_them_are_refused(name):
    with pytest.raises(StudyError, match="is no size of a student"):
        sizes.size(name)


@pytest.mark.parametrize("name", ["a-b", "1a", "a/b", "a\nb", "a ", "_a"])
def test_a_sibling_is_letters_digits_dots_and_blanks(name):
    with pytest.raises(StudyError, match="is no size of a student"):
        sizes.size(name)


@pytest.mark.parametrize("name", ["small", "test-1.2", "_mine", "हिन्दी", "学生"])
def test_a_profile_is_a_folder_in_every_script(name):
    naming.check_profile(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden", "a/b", "a b", "a\rb", "a\x1bb", "a\u202eb", "x" * 101, "学" * 100],
)
def test_a_profile_that_is_no_folder_is_refused(name):
    with pytest.raises(StudyError, match="names a folder under figures/"):
        naming.check_profile(name)


def test_text_that_steers_is_shown_as_escapes_and_other_text_as_it_is():
    assert (
        escaping.printable("a\x1b]8;;x\x07b\x9b\u202ec\u2066\u200f\u2028\ud800\x7f\r\n")
        == r"a\x1b]8;;x\x07b\x9b\u202ec\u2066\u200f\u2028\ud800\x7f\r\n"
    )
    same = "Ünder 你好\u3000हिन्दी می\u200cخواهم \xa0👩\u200d🔬 \\ $x$"
    assert escaping.printable(same) == same
    assert escaping.printable("a\n\tb\r", keep="\n\t") == "a\n\tb\\r"
    assert escaping.markdown("a |\n# `b` <c>\u202e\x1b") == "a \\| # 'b' &lt;c>\\u202e\\x1b"
