"""One run of a profile in several processes, which `torchrun` begins.

torchrun --nproc-per-node 4 -m studylib.app.worker paper "Qwen2.5 7B s0 teacher"
"""

import argparse
import os
import sys
from collections.abc import Sequence

from studylib.app import notebooks
from studylib.core.errors import StudyError
from studylib.core.filesystem import home
from studylib.core.machine import Machine
from studylib.engines import distributed
from studylib.store.run import Run
from studylib.store.store import Store


def main(arguments: Sequence[str] | None = None) -> int:
    """One run of a profile, named by its label or by the beginning of its key; 0 when it went well,
    2 with one sentence otherwise."""
    parser = argparse.ArgumentParser(
        prog="torchrun -m studylib.app.worker", description="Make one run in several processes."
    )
    parser.add_argument("profile", help="a folder of params/ or a YAML file")
    parser.add_argument(
        "run", help="the run's label, as `study status` lists it, or the first digits of its key"
    )
    chosen = parser.parse_args(arguments)
    try:
        run, machine = _named(chosen.profile, chosen.run)
        distributed.join(run, home(), machine)
    except StudyError as error:
        if int(os.environ.get("RANK", 0)) == 0:
            print(f"study: {error}", file=sys.stderr)
        return 2
    return 0


def _named(profile: str, name: str) -> tuple[Run, Machine]:
    """The one run that is called so, and where its plan says it is made. Raises StudyError unless
    there is exactly one."""
    store = Store()
    named = {  # what several notebooks need is one
        run.planned: (run, job.plan.machine)
        for job in notebooks.jobs(profile)
        for run in job.plan.runs
        if name == run.label or (len(name) > 5 and (store.key(run) or "").startswith(name))
    }
    if len(named) != 1:
        raise StudyError(
            f"{len(named)} runs of {profile} are called {name!r}: `study status {profile}` lists"
            " them."
        )
    return next(iter(named.values()))


if __name__ == "__main__":
    raise SystemExit(main())
