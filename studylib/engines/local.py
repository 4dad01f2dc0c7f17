"""Engines of this machine, behind the interface of `concurrent.futures`: this very process, or
several."""

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context
from multiprocessing.queues import Queue
from threading import RLock

from tqdm.auto import tqdm

from studylib.core import parallel


class Here(Executor):
    """In this very process, at once: nothing is to be started, and Ctrl-C stops the run itself."""

    def submit(self, call: Callable, /, *args: object, **kwargs: object) -> Future:
        """Call and return what came of it."""
        future: Future = Future()
        try:
            future.set_result(call(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _begin(cards: Queue | None) -> None:
    """Let this process end with its parent, and give it GPUs of its own, if there are any, before
    it has looked for them."""
    parallel.end_with_parent()
    tqdm.set_lock(RLock())  # the usual one is a semaphore, which stays when a process is ended
    if cards is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = cards.get()


class Processes(Executor):
    """Processes of this machine, each with GPUs of its own where there are any; when one dies, the
    others are begun anew."""

    def __init__(self, workers: int, cards: list[str]):
        self.workers, self.cards = workers, cards
        self.pool = self._begun()

    def _begun(self) -> ProcessPoolExecutor:
        context = get_context("spawn")
        queue = context.Queue()
        for card in self.cards:
            queue.put(card)
        return ProcessPoolExecutor(
            self.workers,
            mp_context=context,
            initializer=_begin,
            initargs=(queue if self.cards else None,),
        )

    def submit(self, call: Callable, /, *args: object, **kwargs: object) -> Future:
        """Call in one of the processes."""
        try:
            return self.pool.submit(call, *args, **kwargs)
        except BrokenProcessPool:
            self.pool = self._begun()
            return self.pool.submit(call, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes, whatever they are at: runs go on from their checkpoints."""
        self.pool.shutdown(wait, cancel_futures=cancel_futures)
        for process in active_children():
            process.terminate()
