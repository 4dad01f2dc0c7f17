"""The systems that `study bench` times against each other: this package's, TRL's, transformers' and
a plain loop.

All distil the same teacher into a student of half its layers, by forward KL at the tokens of gold
answers, with AdamW, an optimiser step per call on all questions of the given contexts; or answer
the same questions.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar, NamedTuple

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
from studylib.evaluation.answers import clean
from studylib.methods.divergences import forward_kl
from studylib.methods.objective import Objective
from studylib.methods.views import Teacher
from studylib.models import parts as model_parts
from studylib.models import prune
from studylib.models.precision import Precision, products_in
from studylib.runs import answers
from studylib.training import loop, teachers
from studylib.training.checkpoint import Learner
from studylib.training.config import Recipe

RATE = 1e-5


@dataclass(frozen=True)
class Match:
    """What all systems are given: a teacher, and how many of its layers the student has."""

    teacher: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    depth: int

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


@dataclass(frozen=True)
class Setting:
    """How a system is run: the precision of its matrix products, and how many rows it takes at a
    time (0: all). A row is a context of ours, a question of the others."""

    precision: Precision = "fp32"
    rows: int = 0

    def __str__(self) -> str:
        return f"{self.precision}, {self.rows or 'all'} rows at a time"


class Timed(NamedTuple):
    """Seconds to prepare a system and of its work, and what came of that."""

    prepared: float
    seconds: float
    result: Any


class System:
    """What is timed."""

    # at a time, of which the best counts: the usual number first, the least memory last
    rows: ClassVar[tuple[int, ...]] = (0,)

    def __init__(self, match: Match, folder: Path):
        self.match, self.folder, self.setting = match, folder, Setting()

    def run(self, prompts: Sequence[Prompt]) -> Timed:
        """Do its work on these contexts."""
        begun = monotonic()
        self.prepare(prompts)
        ready = monotonic()
        result = self.work(prompts)
        return Timed(ready - begun, monotonic() - ready, result)

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """What the first student needs besides."""

    def work(self, prompts: Sequence[Prompt]) -> Any:
        """A step, whose loss is returned (nats per answer token), or the answers."""
        raise NotImplementedError


class Packed(System):
    """Ours: contexts in packs, teacher states from disk, logits at answer positions."""

    rows = (0, 2)

    def __init__(self, match: Match, folder: Path):
        super().__init__(match, folder)
        self.model, self.method = match.student(), Objective(losses={"forward_kl": 1.0})
        self.learner = Learner(self.model, self.method, Recipe(1, RATE, 0), "")

    def prepare(self, prompts: Sequence[Prompt]) -> None:
        """Store the teacher's states, in place of those before."""
        for file in self._files():
            file.unlink()
        rows = [packing.pack(prompt) for prompt in prompts]
        precision = self.setting.precision
        teachers.store(self.match.teacher, rows, self.folder, iter, precision=precision)

    def work(self, prompts: Sequence[Prompt]) -> float:
        """A step from cached states."""
        return self.step([packing.pack(prompt) for prompt in prompts], self.teacher())

    def teacher(self) -> Teacher:
        """The teacher, by its cached states."""
        return Teacher(self.match.head, self.stored())

    def stored(self) -> teachers.CachedStates:
        """The teacher's states."""
        return teachers.CachedStates(self._files())

    def stored_bytes(self) -> int:
        """The size of the teacher's states."""
        return sum(file.stat().st_size for file in self._files())

    def step(self, packs: Sequence[Pack], teacher: Teacher) -> float:
        """The optimiser step itself."""
        given = (self.model, packs, self.method, [teacher], self.match.tokens)
        with products_in(self.model, self.setting.precision):
            values = loop.backward(*given, self.setting.rows)
        self.learner.step(RATE)
        return values["loss"]

    def _files(self) -> list[Path]:
        return list(self.folder.glob("states-*.safetensors"))


class PlainLoop(System):
    """What one writes first: a question a row, padded, all logits of both models, the teacher in
    the step."""

    def __init__(self, match: Match, folder: Path):
        super().__init__(match, folder)
        self.model = match.student()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE)

    def work(self, prompts: Sequence[Prompt]) -> float:
        """A step on a row per question."""
        ids, real, labels = padded(alone(prompts))
        with products_in(self.model, self.setting.precision):
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


class Gkd(System):
    """TRL's GKDTrainer, offline (lmbda 0, forward KL), on rows tokenised as ours, a step in
    micro-batches.

    Raises StudyError where TRL is not installed.
    """

    rows = (0, 8, 4)

    def __init__(self, match: Match, folder: Path):
        try:
            from trl.experimental.gkd import GKDConfig, GKDTrainer
        except ImportError as error:
            raise StudyError("The bench compares with TRL: pip install -e '.[bench]'.") from error
        super().__init__(match, folder)
        self.model, self.config, self.trainer = match.student(), GKDConfig, GKDTrainer
        self.clock = Clock()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, fused=True)

    def run(self, prompts: Sequence[Prompt]) -> Timed:
        """A step; the trainer's set-up does not count."""
        return super().run(prompts)._replace(seconds=self.clock.seconds)

    def work(self, prompts: Sequence[Prompt]) -> float:
        """A step on a row per question."""
        rows = alone(prompts)

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
            callbacks=[self.clock],
        )
        trainer.remove_callback(PrinterCallback)
        loss = trainer.train().training_loss
        for model in (self.model, self.match.teacher):
            for wrapped in (
                "forward",
                "_original_forward",
            ):  # the trainer leaves its wrapping for bf16 on them
                vars(model).pop(wrapped, None)
        return loss

    def _settings(self, rows: int) -> Any:
        """One optimiser step on so many rows, and nothing besides."""
        steps = -(-rows // (self.setting.rows or rows))
        settings = self.config(
            output_dir=str(self.folder),
            lmbda=0.0,
            beta=0.0,
            temperature=1.0,
            per_device_train_batch_size=-(-rows // steps),
            gradient_accumulation_steps=steps,
            num_train_epochs=1,
            bf16=self.setting.precision == "bf16",
            use_cpu=True,  # as ours
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        settings.gradient_checkpointing = False  # it would be slower
        return settings


class Answering(System):
    """Ours: a context's keys and values once, the questions of many contexts at once."""

    def work(self, prompts: Sequence[Prompt]) -> list[str]:
        """The teacher's answers."""
        given = (self.match.teacher, self.match.tokenizer, prompts, self.setting.precision)
        return [result.text for result in answers.ask(*given)]


class Generate(System):
    """Transformers' `generate`: left padding, sorted by length, so many questions at a time."""

    rows = (16, 32, 64, 8)

    def work(self, prompts: Sequence[Prompt]) -> list[str]:
        """The teacher's answers."""
        rows = [given for given, _ in alone(prompts)]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row]))
        longest = longest_answer(branch.target for prompt in prompts for branch in prompt.branches)
        size, texts = self.setting.rows or len(rows), dict[int, str]()
        for start in range(0, len(order), size):
            picked = order[start : start + size]
            texts |= zip(picked, self._texts([rows[row] for row in picked], longest), strict=True)
        return [texts[row] for row in range(len(rows))]

    def _texts(self, rows: Sequence[Sequence[int]], longest: int) -> list[str]:
        """Those of one batch, in up to so many tokens."""
        words, width = self.match.tokenizer, max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows])
        real = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        ends = set(words.all_special_ids)
        teacher: Any = self.match.teacher  # a model that generates, too
        with torch.no_grad(), products_in(self.match.teacher, self.setting.precision):
            out = teacher.generate(
                input_ids=ids,
                attention_mask=real,
                do_sample=False,
                max_new_tokens=longest,
                eos_token_id=sorted(ends),
                pad_token_id=0,
                stopping_criteria=self.match.line_end,
            )
        kept = [[token for token in row if token not in ends] for row in out[:, width:].tolist()]
        return [clean(vocabulary.text(words, row)) for row in kept]


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
