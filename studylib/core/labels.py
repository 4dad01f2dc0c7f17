"""Names that rows and tables use: metrics, and who taught a student."""

METRICS = ("exact_match", "f1", "rouge_l")
MENDED = ("exact_match_mended", "f1_mended")  # by the mended rules, where they differ: Arabic
TUNED, TWO, TWIN, NOBODY = "tuned", "tuned and smaller, averaged", "its twin", "nobody"
FOLDED, RAW = "tuned, shown a demonstration", "raw"
BASE = "base"  # the role of models as they come from outside


def rung(written: int | str) -> str:
    """What a smaller teacher of the ladder is called."""
    return f"twin of {written}"
