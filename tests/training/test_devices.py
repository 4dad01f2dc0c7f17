"""Another device gives what the CPU gives; on a GPU, where there is one."""

import pytest
import torch
from miniatures import FAMILIES, built, model, packs, tokenizer

from studylib.core import filesystem
from studylib.core.errors import StudyError
from studylib.data import packing
from studylib.evaluation import generate
from studylib.methods import stages as method_stages
from studylib.methods.objective import Objective
from studylib.methods.views import Teacher
from studylib.models import parts
from studylib.training import loop
from studylib.training.config import Recipe

gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_a_batch_moves_whole():
    """All its tensors, and what is made of them; `meta` stands for any device that is not the
    CPU."""
    moved = packing.collate(packs()[:3]).to(torch.device("meta"))
    tensors = (moved.ids, moved.positions, moved.branches, moved.mask, moved.real)
    indices = [
        tensor for places in (moved.answers, moved.all) for tensor in (places.at, places.targets)
    ]
    assert {tensor.device.type for tensor in (*tensors, *indices)} == {
        "meta"
    } and moved.lengths == packing.collate(packs()[:3]).lengths


def test_devices_that_are_not_there_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert parts.device("auto") == parts.device("cpu") == torch.device("cpu")
    with pytest.raises(StudyError, match="torch sees no GPU here"):
        parts.device("cuda")
    with pytest.raises(StudyError, match="device 'tpu' is unknown: use auto, cpu or cuda"):
        parts.device("tpu")


@gpu
@needs_gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_finds_the_losses_of_the_cpu(family):
    losses = []
    for device in ("cpu", "cuda"):
        student, net = (model(family, seed=seed).to(device) for seed in (0, 1))
        method = Objective(losses={"forward_kl": 1.0, "hidden_mse": 1.0})
        guide = Teacher(parts.output_of(net, len(tokenizer())), None, net, [0, 1, 2, 3])
        losses.append(loop.backward(student, packs()[:4], method, [guide], len(tokenizer())))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@gpu
@needs_gpu
@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_gives_the_answers_of_the_cpu(family):
    answers = [
        generate.answer(model(family).to(device), tokenizer(), built())
        for device in ("cpu", "cuda")
    ]
    sure = [(cpu.text, gpu.text) for cpu, gpu in zip(*answers, strict=True) if cpu.margin > 1e-3]
    assert len(sure) > 10 and all(cpu_text == gpu_text for cpu_text, gpu_text in sure)


@gpu
@needs_gpu
def test_a_checkpoint_of_a_gpu_goes_on_on_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(filesystem, "CHECKPOINT_SECONDS", -1.0)
    how = dict(
        stages=method_stages.parse(method_stages.gold(4)),
        recipe=Recipe(2, 1e-3, 0),
        vocabulary=len(tokenizer()),
        work=tmp_path,
    )

    def stop(step: int, values: dict) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.train(model("llama").to("cuda"), packs(), **how, report=stop)
    curve = loop.train(model("llama"), packs(), **how)
    whole = loop.train(model("llama"), packs(), **how | {"work": tmp_path / "whole"})
    assert [entry["loss"] for entry in curve] == pytest.approx(
        [entry["loss"] for entry in whole], rel=1e-3
    )
