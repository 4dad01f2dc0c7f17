"""Chat templates are programs of whoever made the model: they run in a process of their own, with
bounds on time, memory and text.

Some print today's date, which would make other prompts under the same key tomorrow: here it is
always the same one. Some could draw at random: here always the same.

render("{{ messages[0].content }}", [[{"role": "user", "content": "Who?"}]], {})

The process is this file, run as a script: it needs transformers alone.
"""

import json
import random
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any

SECONDS = 10  # of computing, whatever else the machine does
CONVERSATIONS_A_SECOND = 100  # at least: the more there are, the longer it may take
MEMORY = 1 << 30  # bytes, beside what the libraries take
LONGEST = 1 << 20  # characters of one conversation beside its messages
ADDRESS = re.compile(r" at 0x[0-9a-f]+>")  # of something that a template prints and never calls
PATIENCE = 600  # seconds, after which a process that neither computes nor ends is given up
# of every chat: a template that prints today's would make other prompts tomorrow
DATE = datetime(2024, 7, 26)
CLOCK = (  # what a template may call, in its own language
    "{% macro strftime_now(format) %}{{ format"
    + "".join(
        f" | replace('%{code}', '{DATE.strftime('%' + code[-1]).lstrip('0' * ('-' in code))}')"
        for code in ("-d", "-m", *"dmyYbBaAjHMSIp")
    )
    + " }}{% endmacro %}{{ '' }}"
)


class TemplateFailure(Exception):
    """A template that cannot be used, and why, in a few words."""


def render(
    template: object, conversations: Sequence[Sequence[Mapping]], special_tokens: Mapping[str, str]
) -> list[str]:
    """Each conversation as text that asks for the next turn, the same on any day. Raises
    TemplateFailure, also for a template that is no text."""
    if isinstance(template, str) and "strftime_now" in template:
        template = CLOCK + template
    return list(_render(json.dumps([template, conversations, dict(special_tokens)])))


@lru_cache(maxsize=4)  # a set of chats may be large
def _render(task: str) -> tuple[str, ...]:
    try:
        done = subprocess.run(
            [sys.executable, "-P", __file__],
            input=task,
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        raise TemplateFailure(f"it did not end within {PATIENCE} seconds") from error
    if done.returncode < 0:  # a signal of the system, mostly for its bound on computing
        raise TemplateFailure(
            f"it takes more than {SECONDS} seconds of computing, or more memory than there is"
        )
    try:
        answer = json.loads(done.stdout)
    except ValueError as error:
        raise TemplateFailure(f"its process failed with exit code {done.returncode}") from error
    if "failure" in answer:
        raise TemplateFailure(answer["failure"])
    return tuple(answer["texts"])


def _bound(conversations: int) -> None:
    """Let the system end this process when it computes for long, and refuse it memory; where there
    is no such bound, time has one."""
    with suppress(ImportError):
        import resource

        import psutil

        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = (
            round(used.ru_utime + used.ru_stime) + SECONDS + conversations // CONVERSATIONS_A_SECOND
        )
        memory = psutil.Process().memory_info().vms + MEMORY
        for kind, bound in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory)):
            with suppress(ValueError, OSError):  # there is a lower bound already, or none here
                resource.setrlimit(kind, (bound, bound))


def _rendered(
    template: str, conversations: list[list[dict]], special_tokens: dict[str, str]
) -> list[str]:
    """All of them, as `PreTrainedTokenizerBase.apply_chat_template` does it."""
    from transformers.utils.chat_template_utils import render_jinja_template

    _bound(len(conversations))
    how: dict[str, Any] = dict(chat_template=template, add_generation_prompt=True, **special_tokens)
    texts: list[str] = []
    for conversation in conversations:
        # whatever a template draws is the same in every process, whatever is rendered with it
        random.seed(0)
        rendered: Any = render_jinja_template(conversations=[conversation], **how)
        (text,) = rendered[0]
        if len(text) > LONGEST + 2 * sum(len(turn["content"]) for turn in conversation):
            raise ValueError(f"it prints {len(text)} characters")
        if len(ADDRESS.findall(text)) > sum(
            len(ADDRESS.findall(turn["content"])) for turn in conversation
        ):
            raise ValueError("it prints an address in memory, which is another one each time")
        texts.append(text)
    return texts


def main() -> None:
    """Read a task, write its texts or why there are none; both in JSON that is ASCII."""
    try:
        answer: dict = {"texts": _rendered(*json.load(sys.stdin))}
    except MemoryError:
        answer = {"failure": f"it takes more than {MEMORY >> 20} MB of memory"}
    except Exception as error:  # whatever a program of others may do
        answer = {"failure": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
