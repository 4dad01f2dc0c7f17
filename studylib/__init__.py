"""How far a question-answering language model can be compressed by knowledge distillation.

Folders, each of which knows only those above it:

    core         What any program needs: errors, files, names, progress, versions.
    store        A thing that is computed once and kept: runs, and exported tables.
    data         From a data set described in YAML to packed rows.
    models       From a model reference to weights: loading, parts, pruning, adapters, FLOPs.
    methods      What a student learns by: losses, objectives in stages, and a file per method.
    training     One loop for teachers and students, and what teachers give to it.
    evaluation   Greedy answers, and their scores.
    runs         The kinds of run: how each is planned, made, and what it takes.
    experiments  From the values of a notebook to a plan: every run that it needs.
    engines      Who computes what is missing: this process, workers, Ray, Slurm.
    bench        How fast it is, beside TRL, `generate` and a plain loop.
    analysis     From rows to intervals, tables, figures and sentences; no torch.
    app          What a user calls: the commands, the notebooks, the report.
"""
