"""The profiles' parameters, and the whole of `paper` on miniatures of its own models."""

import json
import os
from functools import cache
from pathlib import Path

import pytest
import yaml
from miniatures import FACTS, GROUPS, grouped, model
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers import decoders as decoding
from tokenizers import models as tokenizer_models
from transformers import PreTrainedTokenizerFast

from studylib.app import cli, notebooks, study
from studylib.core import sizes
from studylib.core.project import known_profiles, root
from studylib.data import hub
from studylib.models import loading
from studylib.runs.budget import Budget

WORDS = {"gpt_neox": 50277, "qwen2": 151665}  # tokens of the real tokenizers
END = "<|endoftext|>"


@cache
def words(family: str) -> PreTrainedTokenizerFast:
    """A tokenizer of bytes with as many tokens as the family's real one."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate([END, *letters])}
    vocabulary |= {f"<unused {number}>": number for number in range(len(vocabulary), WORDS[family])}
    built = Tokenizer(tokenizer_models.BPE(vocab=vocabulary, merges=[]))
    built.pre_tokenizer, built.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoding.ByteLevel(),
    )
    return PreTrainedTokenizerFast(tokenizer_object=built, eos_token=END)


def fetched(name: str) -> Path:
    """A miniature of two layers of a model of the hub, where the hub's library would have put the
    model itself."""
    entry = hub.known()[name]
    family, rows = entry["config"]["model_type"], entry["config"]["vocab_size"]
    cache_folder = Path(os.environ["HF_HOME"]) / "hub" / f"models--{name.replace('/', '--')}"
    folder = cache_folder / "snapshots" / entry["commit"]
    if not folder.exists():
        wide = 8 * (1 + list(hub.known()).index(name) % 2)  # siblings have unlike widths
        shape = dict(
            hidden_size=wide, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
        )
        tied = {"tie_word_embeddings": entry["config"]["tie_word_embeddings"]}
        loading.save(model(family, vocab_size=rows, **shape, **tied), words(family), folder)
        (cache_folder / "refs").mkdir()
        (cache_folder / "refs" / "main").write_text(entry["commit"])
    return folder


@pytest.fixture
def miniatures(monkeypatch: pytest.MonkeyPatch) -> None:
    """All models of the profile `paper`, at hand as miniatures."""
    for name in hub.known():
        if "SmolLM2" not in name and "Instruct" not in name:
            fetched(name)


@pytest.mark.parametrize("profile", known_profiles())
def test_every_profile_can_be_planned_with_nothing_at_hand(profile):
    jobs = notebooks.jobs(profile)
    notebooks_of = {"tiny": 4, "small": 4, "qwen": 3, "paper": 3}
    assert len(jobs) == notebooks_of.get(profile, 1)
    assert all(job.profile == profile and job.plan.runs for job in jobs)


def test_the_paper_profile_is_what_the_paper_ran_and_more():
    job = notebooks.jobs("paper")[0]
    pairs = {
        (called["family"], sizes.written(called["student"]))
        for _, called in job.plan.trained
        if called["role"] == "student"
    }
    pythia = {("2.8B", "1.4B"), ("6.9B", "2.8B"), ("1B", "410M"), ("410M", "160M")}
    assert {(f"Pythia {teacher}", f"Pythia {student}") for teacher, student in pythia} <= pairs
    assert {
        (f"Qwen2.5 {teacher}", f"Qwen2.5 {student}")
        for teacher, student in {("7B", "3B"), ("3B", "1.5B"), ("1.5B", "0.5B")}
    } <= pairs
    assert {family for family, student in pairs if student == "Pythia 410M"} == {
        f"Pythia {size}" for size in ("6.9B", "2.8B", "1.4B", "1B")
    }
    assert {family for family, student in pairs if student == "Qwen2.5 0.5B"} == {
        f"Qwen2.5 {size}" for size in ("7B", "3B", "1.5B")
    }
    assert {called["seed"] for _, called in job.plan.trained} == set(range(5))
    assert [test.label for test in job.plan.tests] == [
        "squad",
        *(f"mlqa {language}" for language in ("en", "de", "es", "ar", "hi", "vi", "zh")),
    ]
    controls = {
        (called["family"], sizes.written(called["student"]))
        for _, called in job.plan.trained
        if called["role"] == "control"
    }
    assert controls == pairs  # no student without its control
    taught_by = {asked.called["teacher"] for asked in notebooks.jobs("paper")[1].plan.asked}
    assert {"base", "fine-tuned", "none (gold only)"} <= taught_by


SHORT = {
    "train": {"source": "facts:train", **FACTS},
    "dev": {"source": "facts:dev", **FACTS},
    "stages": [{"steps": 2, "losses": {"forward_kl": 1.0, "cross_entropy": 0.5}}],
    "seeds": [0],
    "teacher_steps": 2,
    "lrs": [1e-3],
    "batch_size": 2,
    "micro_batch_size": 1,
    "num_evals": 1,
    "threads": 1,
    "processes": 1,
}


def flat(values: dict) -> dict:
    """Parameters without their groups."""
    alone = {name: value for name, value in values.items() if name not in GROUPS}
    return alone | {
        name: value for group in GROUPS for name, value in values.get(group, {}).items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["capacity_gap", "teacher_choice", "prompting_mode"])
def test_the_whole_paper_profile_runs_on_miniatures_of_its_models(
    name, tmp_path, capsys, miniatures
):
    """Models by their real references, with their real numbers of tokens and of rows: both padded
    pairs are among them."""
    values = yaml.safe_load((root() / f"params/paper/{name}.yaml").read_text())
    values = (
        flat(values)
        | SHORT
        | {
            "profile": "test-paper",
            "tests": {"near": {"source": "facts:test", **FACTS}},
        }
    )
    if "alternative" in values:
        values["alternative"]["stages"] = [{"steps": 2, "losses": {"taid": 1.0}}]
    values["eval_prompts"] = (
        ["zero-shot", "one-shot"] if name == "prompting_mode" else ["zero-shot"]
    )
    (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(grouped(values)))
    assert cli.main(["run", str(tmp_path / f"{name}.yaml")]) == 0, capsys.readouterr().err
    folder = study.folder("test-paper", name)
    (job,) = notebooks.jobs(str(tmp_path / f"{name}.yaml"))
    rows = study.rows(job.plan, folder=folder)
    assert set(rows.planned) == {asked.planned for asked in job.plan.asked}
    assert (folder / "table.md").exists() and "Qwen2.5 3B" in (folder / "table.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "rows"),
    [("gpt_neox", (50304, 50432)), pytest.param("qwen2", (151936, 152064), marks=pytest.mark.slow)],
)
def test_padded_siblings_learn_from_each_other_through_folders_too(family, rows, tmp_path):
    """Teacher and student with unlike numbers of rows for the same tokens, by `path:`."""
    for number, count in enumerate(rows):
        shape = dict(
            hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16
        )
        loading.save(
            model(family, vocab_size=count, **shape), words(family), tmp_path / f"{number}"
        )
    values = SHORT | {
        "profile": "test-padded",
        "tests": {"near": {"source": "facts:test", **FACTS}},
        "eval_prompts": ["zero-shot"],
    }
    values |= {
        "families": {"large": f"path:{tmp_path / '1'}"},
        "siblings": {"large": {"small": f"path:{tmp_path / '0'}"}},
    }
    values |= {
        "sizes": [],
        "from_base": [],
        "stages": [{"steps": 2, "losses": {"forward_kl": 1.0, "hidden_mse": 0.1}}],
    }
    (tmp_path / "capacity_gap.yaml").write_text(yaml.safe_dump(grouped(values)))
    (job,) = notebooks.jobs(str(tmp_path / "capacity_gap.yaml"))
    study.complete(job.plan)
    assert set(study.rows(job.plan).student) == {"", "large-small"}
    curves = study.curves(job.plan)
    assert curves[curves.role == "student"].forward_kl.dropna().between(0, 100).all()
    assert json.loads(json.dumps(curves.loss.tolist()))


def test_the_qwen_profile_has_the_published_sizes_with_nothing_at_hand():
    """68.0 % fewer parameters, 72.7 % fewer outside embeddings; no model is fetched to say so."""
    plan, accounts = notebooks.jobs("qwen")[0].plan, Budget()
    teacher, student = (
        next(run for run, called in plan.trained if called["role"] == role)
        for role in ("teacher", "student")
    )
    whole, small = accounts.shape(teacher), accounts.shape(student)
    assert (whole.total, small.total) == (1_543_714_304, 494_032_768)
    assert 100 * (1 - small.total / whole.total) == pytest.approx(68.0, abs=0.05)
    assert 100 * (1 - small.nonembedding / whole.nonembedding) == pytest.approx(72.7, abs=0.05)
    assert teacher.parameters["lora"] == 16 and student.needs["init"].value.endswith(
        "0.5b-instruct-q4_k_m.gguf"
    )
