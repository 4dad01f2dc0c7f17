"""The verbs of a notebook on a plan: complete it, then read rows, curves and costs, and write what
is shown.

study.complete(plan, folder=folder)
rows = study.rows(plan, folder=folder)
"""

from studylib.app.completion import complete
from studylib.app.curves import curves
from studylib.app.exhibits import export
from studylib.app.leakage import leakage
from studylib.app.origins import origins
from studylib.app.rows import rows
from studylib.app.run_states import overview
from studylib.app.timing import timing
from studylib.core.project import figures_folder as folder

__all__ = [
    "complete",
    "curves",
    "export",
    "folder",
    "leakage",
    "origins",
    "overview",
    "rows",
    "timing",
]
