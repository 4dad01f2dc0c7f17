"""From a data set described in YAML to packed rows: sources, questions, prompts, tokens."""
