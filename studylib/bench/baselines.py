"""The systems that `study bench` times against each other: this package's, TRL's, transformers' and
a plain loop.

All distil the same teacher into a student of half its layers, by forward KL at the tokens of gold
answers, with AdamW, in the same precision, an optimiser step per call on all questions of the given
contexts; or answer the same questions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    StoppingCriteriaList,
    StopStringCriteria,
    TrainerCallback,
)

from studylib.core.errors import StudyError
from studylib.data import packing, vocabulary
from studylib.data.packing import Pack
from studylib.data.prompts import Prompt, longest_answer
from studylib.evaluation import generate as evaluation_generate
from studylib.methods.divergences import forward_kl
from studylib.methods.objective import Objective
from studylib.methods.views import Teacher
from studylib.models import parts as model_parts
from studylib.models import prune
from studylib.training import loop, teachers
from studylib.training.checkpoint import Learner
from studylib.training.config import Recipe

RATE = 1e-5


@dataclass(frozen=True)
class Match:
    """What all baselines are given: a teacher, how many of its layers the student has, and the
    precision."""

    teacher: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    depth: int
    precision: str

    @cached_property
    def line_end(self) -> StoppingCriteriaList:
        """What ends answers besides special tokens, as with ours: a new line."""
        return StoppingCriteriaList([StopStringCriteria(self.tokenizer, "\n")])

    @cached_property
    def tokens(self) -> int:
        """The size of the vocabulary."""
        return vocabulary.size(self.tokenizer)

    def student(self) -> PreTrainedModel:
        """Every layer alike costs the same, so which ones are kept does not matter here."""
        return prune.cut(self.teacher, range(self.depth)).eval()

    def head(self, hidden: Tensor) -> Tensor:
        """The teacher's logits."""
        return model_parts.head(self.teacher, hidden, self.tokens)


class Packed:
    """Ours: contexts in packs, teacher states from disk, logits at answer positions."""

    def __init__(self, match: Match, folder: Path):
        self.match, self.folder, self.model = match, folder, match.student()
        self.method = Objective(losses={"forward_kl": 1.0})
        recipe = Recipe(1, RATE, 0, precision=match.precision)
        self.learner = Learner(self.model, self.method, recipe, "")
        folder.mkdir(exist_ok=True)

    def store(self, prompts: Sequence[Prompt]) -> None:
        """The first student's extra work: the teacher's states."""
        rows = [packing.pack(prompt) for prompt in prompts]
        teachers.store(self.match.teacher, rows, self.folder, iter, precision=self.match.precision)

    def distil(self, prompts: Sequence[Prompt]) -> float:
        """A step from stored states; returns its loss, nats per answer token."""
        return self.step([packing.pack(prompt) for prompt in prompts], self.teacher())

    def teacher(self) -> Teacher:
        """The teacher, by its stored states."""
        return Teacher(self.match.head, self.stored())

    def stored(self) -> teachers.StoredStates:
        """The teacher's states."""
        return teachers.StoredStates(self.folder.glob("states-*.safetensors"))

    def step(self, packs: Sequence[Pack], teacher: Teacher) -> float:
        """The optimiser step itself."""
        with model_parts.precision(self.model, self.match.precision):
            values = loop.backward(self.model, packs, self.method, [teacher], self.match.tokens)
        self.learner.step(RATE)
        return values["loss"]


class PlainLoop:
    """What one writes first: a question a row, padded, all logits of both models, the teacher in
    the step."""

    def __init__(self, match: Match, folder: Path):
        self.match, self.model = match, match.student()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE)

    def distil(self, prompts: Sequence[Prompt]) -> float:
        """A step on a row per question; returns its loss."""
        ids, real, labels = padded(alone(prompts))
        with model_parts.precision(self.model, self.match.precision):
            with torch.no_grad():
                teacher_logits = self.match.teacher(input_ids=ids, attention_mask=real).logits
            student_logits = self.model(input_ids=ids, attention_mask=real).logits
            losses = forward_kl(
                student_logits[:, :-1].flatten(0, 1), teacher_logits[:, :-1].flatten(0, 1)
            )
            mask = labels[:, 1:].flatten() != -100
            loss = (losses * mask).sum() / mask.sum()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


class Clock(TrainerCallback):
    """Keeps in `seconds` how long the last optimiser step took."""

    def on_step_begin(self, *args: object, **more: object) -> None:
        self.begun = monotonic()

    def on_step_end(self, *args: object, **more: object) -> None:
        self.seconds = monotonic() - self.begun


class Gkd:
    """TRL's GKDTrainer, offline (lmbda 0, forward KL), on rows tokenised as ours, a step in `parts`
    micro-batches.

    Raises StudyError where TRL is not installed.
    """

    def __init__(self, match: Match, folder: Path, parts: int = 1):
        try:
            from trl.experimental.gkd import GKDConfig, GKDTrainer
        except ImportError as error:
            raise StudyError("The bench compares with TRL: pip install -e '.[bench]'.") from error
        self.match, self.folder, self.model, self.parts = match, folder, match.student(), parts
        self.config, self.trainer, self.seconds = GKDConfig, GKDTrainer, 0.0
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, fused=True)

    def distil(self, prompts: Sequence[Prompt]) -> float:
        """A step on a row per question; returns its loss, and leaves in `seconds` how long the step
        took without the trainer's set-up."""
        rows, clock = alone(prompts), Clock()

        def collated(picked: Sequence[dict]) -> dict[str, Tensor]:
            ids, real, labels = padded([rows[item["row"]] for item in picked])
            return {"input_ids": ids, "attention_mask": real, "labels": labels, "prompts": ids}

        trainer = self.trainer(
            model=self.model,
            teacher_model=self.match.teacher,
            args=self._settings(len(rows)),
            data_collator=collated,
            train_dataset=Dataset.from_dict({"row": list(range(len(rows)))}),
            processing_class=self.match.tokenizer,
            optimizers=(
                self.optimizer,
                torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: 1.0),
            ),
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        loss = trainer.train().training_loss
        for model in (self.model, self.match.teacher):
            for wrapped in (
                "forward",
                "_original_forward",
            ):  # the trainer leaves its wrapping for bf16 on them
                vars(model).pop(wrapped, None)
        self.seconds = clock.seconds
        return loss

    def _settings(self, rows: int) -> Any:
        """One optimiser step on so many rows, and nothing besides."""
        settings = self.config(
            output_dir=str(self.folder),
            lmbda=0.0,
            beta=0.0,
            temperature=1.0,
            per_device_train_batch_size=-(-rows // self.parts),
            gradient_accumulation_steps=self.parts,
            num_train_epochs=1,
            bf16=self.match.precision == "bf16",
            use_cpu=True,  # as ours
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        settings.gradient_checkpointing = False  # it would be slower
        return settings


def answer(match: Match, prompts: Sequence[Prompt]) -> list[str]:
    """Our answers: a context's keys and values once."""
    return [
        result.text
        for result in evaluation_generate.answer(match.teacher, match.tokenizer, prompts)
    ]


def generate(match: Match, prompts: Sequence[Prompt], size: int) -> list[str]:
    """The same by transformers' `generate`: left padding, sorted by length, `size` questions at a
    time."""
    longest = longest_answer(branch.target for prompt in prompts for branch in prompt.branches)
    rows = [prompt.prefix + branch.given for prompt in prompts for branch in prompt.branches]
    order, texts = sorted(range(len(rows)), key=lambda row: len(rows[row])), {}
    ends = set(match.tokenizer.all_special_ids)
    teacher: Any = match.teacher  # a model that generates, too
    for start in range(0, len(order), size):
        picked = order[start : start + size]
        width = max(len(rows[row]) for row in picked)
        ids = torch.tensor([[0] * (width - len(rows[row])) + rows[row] for row in picked])
        real = torch.tensor(
            [[0] * (width - len(rows[row])) + [1] * len(rows[row]) for row in picked]
        )
        with torch.no_grad():
            out = teacher.generate(
                input_ids=ids,
                attention_mask=real,
                do_sample=False,
                max_new_tokens=longest,
                eos_token_id=sorted(ends),
                pad_token_id=0,
                stopping_criteria=match.line_end,
            )
        for row, tokens in zip(picked, out[:, width:].tolist(), strict=True):
            texts[row] = evaluation_generate.clean(
                vocabulary.text(match.tokenizer, [token for token in tokens if token not in ends])
            )
    return [texts[row] for row in range(len(rows))]


def alone(prompts: Iterable[Prompt]) -> list[tuple[list[int], list[int]]]:
    """A row per question: what is given, and what is to be learnt (EOS included)."""
    return [
        (prompt.prefix + branch.given, branch.target)
        for prompt in prompts
        for branch in prompt.branches
    ]


def padded(rows: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, 1 on tokens, and labels (-100 but on what is to be learnt), each (B, T), padded on
    the right."""
    ids = packing.padded([given + target for given, target in rows])
    real = packing.padded([[1] * (len(given) + len(target)) for given, target in rows])
    labels = packing.padded([[-100] * len(given) + target for given, target in rows], -100)
    return ids, real, labels
