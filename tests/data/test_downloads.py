"""Downloads: the address of an archive in a package index on this machine."""

from pathlib import Path

import pytest
from toy_data import CONTENT, TOY, sha, wheel

from studylib.core.errors import StudyError
from studylib.data import archives, downloads


def index(folder: Path, *packed: Path) -> None:
    """A package index of the toy package."""
    (folder / "simple" / "toy").mkdir(parents=True)
    links = "".join(
        f'<a href="/{path.name}#sha256={sha(path.read_bytes())}">{path.name}</a>' for path in packed
    )
    (folder / "simple" / "toy" / "index.html").write_text(
        f"<!DOCTYPE html><html><body>{links}</body></html>"
    )


def test_the_address_comes_from_the_index_that_pip_is_configured_for(
    served, monkeypatch: pytest.MonkeyPatch
):
    folder, address = served
    old, new = (
        wheel(folder / f"toy-{number}-py3-none-any.whl", {"wanted.txt": CONTENT})
        for number in ("1.0", "2.0")
    )
    index(folder, old, new)
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple/")
    monkeypatch.setattr(
        archives,
        "PINNED",
        dict.fromkeys((TOY, "toy==3.0"), archives.Archive("", {"wanted.txt": "0"}, 1)),
    )
    assert downloads.address(TOY, "wait") == f"{address}/{old.name}"
    with pytest.raises(StudyError, match=r"The package index has no toy==3\.0: check the network"):
        downloads.address("toy==3.0", "wait")


def test_an_index_that_cannot_be_asked_is_refused(
    refused_port: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{refused_port}/simple/")
    with pytest.raises(StudyError, match=f"No package index could be asked for {TOY}"):
        downloads.address(TOY, "wait")
