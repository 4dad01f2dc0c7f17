"""The systems that `study bench` times against each other: this package's, TRL's, transformers' and a plain loop.

All distil the same teacher into a student of half its layers, by forward KL at the tokens of gold answers, with
AdamW, in the same precision; or answer the same questions.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from studylib import answering, cutting, models, objectives, packing, teaching, training
from studylib.divergences import forward_kl
from studylib.errors import StudyError
from studylib.packing import Pack
from studylib.prompts import Prompt, longest_answer

RATE = 1e-5
QUESTIONS = 16  # a step of those that have a question a row


@dataclass(frozen=True)
class Match:
    """What all contestants are given: a teacher, how many of its layers the student has, and the precision."""

    teacher: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    depth: int
    precision: str

    def student(self) -> PreTrainedModel:
        """Every layer alike costs the same, so which ones are kept does not matter here."""
        return cutting.cut(self.teacher, range(self.depth)).requires_grad_(True).eval()

    def head(self, hidden: Tensor) -> Tensor:
        """The teacher's logits."""
        return models.head(self.teacher, hidden, len(self.tokenizer))


class Packed:
    """Ours: contexts in packs, teacher states from disk, logits at answer positions."""

    def __init__(self, match: Match, folder: Path):
        self.match, self.folder, self.model = match, folder, match.student()
        self.mixture = objectives.Mixture(objectives.parse([{"steps": 1, "losses": {"forward_kl": 1.0}}]))
        self.recipe = training.Recipe(1, RATE, 0, precision=match.precision)
        self.learner = training.Learner(self.model, self.mixture, self.recipe, "")

    def store(self, prompts: Sequence[Prompt]) -> None:
        """The first student's extra work: the teacher's states."""
        with training.precision(self.match.teacher, self.match.precision):
            teaching.store(self.match.teacher, [packing.pack(prompt) for prompt in prompts], self.folder, iter)

    def distil(self, prompts: Sequence[Prompt]) -> list[float]:
        """An optimiser step per few contexts that have about as many questions as the others' rows; returns the losses."""
        states = teaching.StoredStates(self.folder.glob("states-*.safetensors"))
        guide = training.Teacher(self.match.head, states)
        return [self.step([packing.pack(prompt) for prompt in step], guide) for step in by_questions(prompts, QUESTIONS)]

    def step(self, packs: Sequence[Pack], guide: training.Teacher) -> float:
        """One optimiser step; returns its loss, nats per answer token."""
        with training.precision(self.model, self.match.precision):
            values = training.backward(self.model, packs, self.mixture, 0, guide, len(self.match.tokenizer))
        self.learner.step(RATE)
        return values["loss"]


class PlainLoop:
    """What one writes first: a question a row, padded, all logits of both models, the teacher in the step."""

    def __init__(self, match: Match):
        self.match, self.model = match, match.student()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE)

    def distil(self, prompts: Sequence[Prompt]) -> list[float]:
        """An optimiser step per QUESTIONS rows; returns the losses."""
        rows = alone(prompts)
        return [self._step(rows[start : start + QUESTIONS]) for start in range(0, len(rows), QUESTIONS)]

    def _step(self, rows: Sequence[tuple[list[int], list[int]]]) -> float:
        ids, real, labels = padded(rows)
        with training.precision(self.model, self.match.precision):
            with torch.no_grad():
                theirs = self.match.teacher(input_ids=ids, attention_mask=real).logits
            own = self.model(input_ids=ids, attention_mask=real).logits
            each = forward_kl(own[:, :-1].flatten(0, 1), theirs[:, :-1].flatten(0, 1))
            wanted = labels[:, 1:].flatten() != -100
            loss = (each * wanted).sum() / wanted.sum()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


class Gkd:
    """TRL's GKDTrainer, offline (lmbda 0, forward KL), on rows tokenised as ours. Raises StudyError where TRL is not installed."""

    def __init__(self, match: Match, folder: Path):
        try:
            from trl.experimental.gkd import GKDConfig, GKDTrainer
        except ImportError as error:
            raise StudyError("The bench compares with TRL: pip install -e '.[bench]'.") from error
        self.match, self.folder, self.model, self.config, self.trainer = match, folder, match.student(), GKDConfig, GKDTrainer
        self.loss = float("nan")

    def distil(self, prompts: Sequence[Prompt]) -> float:
        """An optimiser step per QUESTIONS rows; returns the seconds of the steps alone, without the trainer's set-up, and keeps the mean loss."""
        from datasets import Dataset
        from transformers import TrainerCallback

        rows, seconds = alone(prompts), []

        class Clock(TrainerCallback):
            def on_step_begin(self, *args: object, **more: object) -> None:
                seconds.append(-monotonic())

            def on_step_end(self, *args: object, **more: object) -> None:
                seconds[-1] += monotonic()

        def collated(picked: Sequence[dict]) -> dict[str, Tensor]:
            ids, real, labels = padded([rows[one["row"]] for one in picked], self.match.tokenizer.pad_token_id or 0)
            return {"input_ids": ids, "attention_mask": real, "labels": labels, "prompts": ids}

        settings = self.config(
            output_dir=str(self.folder),
            lmbda=0.0,
            beta=0.0,
            temperature=1.0,
            per_device_train_batch_size=QUESTIONS,
            num_train_epochs=1,
            learning_rate=RATE,
            bf16=self.match.precision == "bf16",
            use_cpu=not torch.cuda.is_available(),
            gradient_checkpointing=False,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        done = self.trainer(
            model=self.model,
            teacher_model=self.match.teacher,
            args=settings,
            data_collator=collated,
            train_dataset=Dataset.from_dict({"row": list(range(len(rows)))}),
            processing_class=self.match.tokenizer,
            callbacks=[Clock()],
        ).train()
        self.loss = done.training_loss
        return sum(seconds)


def answer(match: Match, prompts: Sequence[Prompt]) -> list[str]:
    """Our answers: a context's keys and values once."""
    return [found.text for found in answering.answer(match.teacher, match.tokenizer, prompts)]


def generate(match: Match, prompts: Sequence[Prompt], size: int) -> list[str]:
    """The same by transformers' `generate`: left padding, sorted by length, `size` questions at a time."""
    longest = longest_answer(branch.target for prompt in prompts for branch in prompt.branches)
    rows = [prompt.prefix + branch.given for prompt in prompts for branch in prompt.branches]
    order, said = sorted(range(len(rows)), key=lambda row: len(rows[row])), {}
    for start in range(0, len(order), size):
        picked = order[start : start + size]
        width = max(len(rows[row]) for row in picked)
        ids = torch.tensor([[0] * (width - len(rows[row])) + rows[row] for row in picked])
        real = torch.tensor([[0] * (width - len(rows[row])) + [1] * len(rows[row]) for row in picked])
        with torch.no_grad():
            out = match.teacher.generate(
                input_ids=ids,
                attention_mask=real,
                do_sample=False,
                max_new_tokens=longest,
                eos_token_id=match.tokenizer.all_special_ids,
                pad_token_id=0,
                stop_strings=["\n"],
                tokenizer=match.tokenizer,
            )
        for row, tokens in zip(picked, out[:, width:].tolist(), strict=True):
            said[row] = answering.clean(match.tokenizer.decode(tokens, skip_special_tokens=True))
    return [said[row] for row in range(len(rows))]


def by_questions(prompts: Sequence[Prompt], count: int) -> Iterable[list[Prompt]]:
    """Contexts in groups of about `count` questions."""
    groups = max(1, round(sum(len(prompt.branches) for prompt in prompts) / count))
    size = -(-len(prompts) // groups)
    return [list(prompts[start : start + size]) for start in range(0, len(prompts), size)]


def alone(prompts: Iterable[Prompt]) -> list[tuple[list[int], list[int]]]:
    """A row per question: what is given, and what is to be learnt (EOS included)."""
    return [(prompt.prefix + branch.given, branch.target) for prompt in prompts for branch in prompt.branches]


def padded(rows: Sequence[tuple[list[int], list[int]]], padding: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, 1 on tokens, and labels (-100 but on what is to be learnt), each (B, T), padded on the right."""
    width = max(len(given) + len(target) for given, target in rows)
    ids, real = torch.full((len(rows), width), padding), torch.zeros(len(rows), width, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for row, (given, target) in enumerate(rows):
        end = len(given) + len(target)
        ids[row, :end], real[row, :end] = torch.tensor(given + target), 1
        labels[row, len(given) : end] = torch.tensor(target)
    return ids, real, labels


CONTESTANTS: dict[str, Callable] = {"ours": Packed, "trl": Gkd, "plain loop": PlainLoop}
