"""Names that rows and tables use: metrics, roles, initialisations, and who taught a student."""

METRICS = ("exact_match", "f1", "rouge_l")
MENDED = ("exact_match_mended", "f1_mended")  # by the mended rules, where they differ: Arabic
TEACHER, STUDENT, CONTROL = "teacher", "student", "control"  # roles
BASE, FINE_TUNED, PRETRAINED = "base", "fine-tuned", "pretrained"  # base: as from outside, too
# Arms: a role's main models are called like their role; other students are these.
OTHER_LOSSES, SMALLER_TEACHER = "student (other losses)", "student (smaller teacher)"
METHOD = "student (method)"
GOLD_ONLY = "none (gold only)"
BASE_SHOWN = "base with a demonstration"
SMALLER_FINE_TUNED, SMALLER_DISTILLED = "smaller, fine-tuned", "smaller, distilled"
ENSEMBLE = "ensemble: fine-tuned and smaller"
SELF = "self-distillation"
FINE_TUNED_SHOWN = "fine-tuned with a demonstration"


def control_of(written: int | str) -> str:
    """What the control of this size is called where it teaches."""
    return f"control of {written}"
