"""Miniature systems for processes of the bench: they are made there, so they are named here."""

import os
from pathlib import Path

import torch
from miniatures import model, tokenizer

from studylib.bench.baselines import Match, System


def matched(system: type[System], folder: Path) -> System:
    torch.set_num_threads(1)
    return system(Match(model("llama"), tokenizer(), 2), folder)


class Echo(System):
    """Answers with the questions themselves."""

    rows = (1, 2)

    def work(self, prompts):
        print("noise that nobody asked for")
        return [branch.question.question for prompt in prompts for branch in prompt.branches]


class Greedy(Echo):
    """Needs more memory than there is."""

    def work(self, prompts):
        return bytearray(2**36)


class Large(Echo):
    """The same of torch's."""

    def work(self, prompts):
        return torch.zeros(2**34)


class Filling(Echo):
    """Needs 100 MB, for a moment."""

    def work(self, prompts):
        return len(bytearray(b"x") * 10**8)


class Dying(Echo):
    def work(self, prompts):
        os.kill(os.getpid(), 9)


class Wrong(Echo):
    def work(self, prompts):
        raise ValueError("it has\nno rows.")


class Absent(Echo):
    def __init__(self, match, folder):
        raise ImportError("no such library")
