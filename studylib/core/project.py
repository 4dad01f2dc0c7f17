"""Where the project's own files lie, from whatever folder it is called."""

from pathlib import Path

from studylib.core import naming
from studylib.core.errors import StudyError


def root() -> Path:
    """The checkout that holds `notebooks/` and `params/`: above the working folder, or around the
    package.

    Raises StudyError when there is none.
    """
    for folder in (Path.cwd(), *Path.cwd().parents, *Path(__file__).parents):
        if (folder / "notebooks/capacity_gap.ipynb").is_file() and (folder / "params").is_dir():
            return folder
    raise StudyError(
        "`study` needs the project's notebooks and params: run it inside a checkout of the project."
    )


def profiles(profile: str) -> list[Path]:
    """The YAML files of a profile (a folder of params/), or the one that is named. Raises
    StudyError if there is none."""
    if profile.endswith((".yaml", ".yml")):
        return [Path(profile)]
    files = sorted((root() / "params" / profile).glob("*.yaml"))
    if not files:
        raise StudyError(
            f"There is no profile {profile!r}: known are {', '.join(known_profiles())}, or name a"
            " YAML file."
        )
    return files


def notebook(file: Path) -> Path:
    """The notebook that a YAML file is named after. Raises StudyError if there is none."""
    notebooks = {path.stem: path for path in sorted((root() / "notebooks").glob("*.ipynb"))}
    if file.stem not in notebooks:
        raise StudyError(
            f"{file}: there is no notebook {file.stem}: name the file after one of"
            f" {', '.join(notebooks)}."
        )
    return notebooks[file.stem]


def known_profiles() -> list[str]:
    """The folders of params/."""
    return sorted(folder.name for folder in (root() / "params").iterdir() if folder.is_dir())


def figures_folder(profile: str, notebook: str) -> Path:
    """Where a notebook writes what it shows. Raises StudyError for a profile that is no name of a
    folder."""
    naming.check_profile(profile)
    return root() / "figures" / profile / notebook
