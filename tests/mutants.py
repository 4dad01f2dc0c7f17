"""Mutation testing: changes the code in one place at a time and looks whether a test sees it.

Of all mutants that mutmut makes of losses, packing, scores and statistics (`[tool.mutmut]` in
pyproject.toml; it leaves constants and decorated functions alone), 200 are drawn and tested,
without simulations. Shows those that survive, and ends with 1 where fewer than 85 % are killed. A
quarter of an hour: pip install -e '.[test,mutants]' && python tests/mutants.py
"""

import os
import shutil
import sys
from collections import Counter
from pathlib import Path
from random import Random

DRAWN, SEED, ENOUGH = 200, 0, 0.85


def every(modules: list[str]) -> dict[str, str]:
    """All mutants' names, and the module of each."""
    from mutmut.mutation.file_mutation import mutate_file_contents
    from mutmut.utils.format_utils import get_mutant_name

    mutants = {
        module: mutate_file_contents(module, Path(module).read_text(encoding="utf-8")).mutant_names
        for module in modules
    }
    return {
        get_mutant_name(Path(module), name): module
        for module, names in mutants.items()
        for name in names
    }


def tested(mutants: dict[str, str]) -> dict[str, str]:
    """What became of each: killed, survived, timeout (an endless loop) or what else mutmut says."""
    from mutmut.__main__ import cli
    from mutmut.mutation.data import SourceFileMutationData
    from mutmut.stats import status_by_exit_code

    shutil.rmtree("mutants", ignore_errors=True)
    cli.main(
        ["run", "--max-children", str(max(1, (os.cpu_count() or 1) // 2)), *mutants],
        standalone_mode=False,
    )
    codes: dict[str, int | None] = {}
    for module in set(mutants.values()):
        data = SourceFileMutationData(path=module)
        data.load()
        codes |= data.exit_code_by_key
    return {name: status_by_exit_code[codes[name]] for name in mutants}


def main() -> int:
    """Draw, test, show."""
    os.chdir(Path(__file__).parent.parent)  # where mutmut, once imported, finds its settings
    os.environ |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    from mutmut.configuration import config
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    known = every(config().only_mutate)
    drawn = {name: known[name] for name in Random(SEED).sample(sorted(known), DRAWN)}
    became = tested(drawn)
    survivors = sorted(name for name in drawn if became[name] not in ("killed", "timeout"))
    for name in survivors:
        print(f"\n{name}: {became[name]}\n{get_diff_for_mutant(name, path=drawn[name])}")
    print()
    for module in config().only_mutate:
        counts = Counter(became[name] for name in drawn if drawn[name] == module)
        print(f"{module}: {', '.join(f'{count} {how}' for how, count in sorted(counts.items()))}")
    killed = len(drawn) - len(survivors)
    print(
        f"{killed} of {len(drawn)} mutants killed ({killed / len(drawn):.1%}; {ENOUGH:.0%} are"
        f" wanted), drawn from {len(known)}"
    )
    return 0 if killed >= ENOUGH * len(drawn) else 1


if __name__ == "__main__":
    sys.exit(main())
