"""Where the archive is, by the setting, and what is refused before anything is served."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gateway.archive.objects import Folder
from gateway.archive.place import claim, objects_at
from gateway.archive.writer import ArchiveWriter
from gateway.errors import InvalidSetting
from tests.archive.records import prediction


class Gateway:
    """A state folder, and whether it takes an archive."""

    def __init__(self, state: Path) -> None:
        self.own = state / "archive"
        self.mark = state / "archive-id"
        self.own.mkdir(parents=True)

    def claim(self, where: str) -> None:
        """As at a start."""
        claim(self.own, where, mark=self.mark)

    def refusal(self, where: str) -> str:
        """Why it does not start; always with the name of the setting."""
        with pytest.raises(InvalidSetting, match=r"^AUDITION_ARCHIVE: ") as refused:
            self.claim(where)
        return str(refused.value)


@pytest.fixture
def gateway(tmp_path: Path) -> Gateway:
    """One that was never started."""
    return Gateway(tmp_path / "state")


@pytest.mark.parametrize("scheme", ["", "file://", "fsspec+file://"])
def test_a_folder_and_a_url_are_taken(gateway: Gateway, tmp_path: Path, scheme: str) -> None:
    """And found again at the next start; nothing is left there but the id."""
    place = tmp_path / "elsewhere"
    for _ in range(2):
        gateway.claim(f"{scheme}{place}")
    assert [path.name for path in place.rglob("*") if path.is_file()] == ["archive-id"]
    assert (place / "archive-id").read_bytes() == gateway.mark.read_bytes()


def test_nothing_set_is_the_folder_of_the_state(tmp_path: Path) -> None:
    """Relative folders are from where the server was started, as all of them are."""
    assert objects_at(tmp_path / "a", "").name("x") == str(tmp_path / "a" / "x")
    assert objects_at(tmp_path, "b").name("x") == str(Path("b/x").absolute())


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("ftp://host/archive", "under ftp://; use a folder, file://, s3://"),
        ("fsspec+memory://archive", "under fsspec"),
        ("mock:///archive", "under mock://"),
        ("fsspec+nonsense://archive", "fsspec+nonsense"),
        ("s3://", "needs a bucket"),
        ("s3://bucket/a?wrong=1", "wrong"),
        ("file://relative", "scheme file"),
        ("s3://[bucket/a", "no URL"),
    ],
)
def test_a_place_that_cannot_be_is_refused(gateway: Gateway, where: str, said: str) -> None:
    """With what could be used instead."""
    assert said in gateway.refusal(where)


@pytest.mark.parametrize(
    "where",
    [
        "s3://AKIAHUSH:hush@bucket/archive",
        "s3://hush@bucket/archive",
        "s3://bucket/archive?secret_key=hush",
        "abfs://account/archive?account_key=hush",
        "fsspec+sftp://me:hush@host/archive",
    ],
)
def test_credentials_in_the_url_are_refused_and_not_repeated(gateway: Gateway, where: str) -> None:
    """Others could read them; the message says where they belong."""
    said = gateway.refusal(where)
    assert "hush" not in said.lower()
    assert "AWS_ACCESS_KEY_ID" in said


def test_a_place_that_cannot_be_written_is_refused(gateway: Gateway, tmp_path: Path) -> None:
    """As is one that is not there."""
    (tmp_path / "file").touch()
    assert "cannot be written" in gateway.refusal(str(tmp_path / "file" / "archive"))
    assert "cannot be written" in gateway.refusal(f"fsspec+file://{tmp_path}/file/archive")


def test_the_archive_of_another_state_folder_is_refused(gateway: Gateway, tmp_path: Path) -> None:
    """Two writers would undo each other's manifests."""
    Gateway(tmp_path / "other").claim(str(tmp_path / "place"))
    assert "another state folder" in gateway.refusal(str(tmp_path / "place"))


def test_an_archive_that_is_left_behind_is_missed(gateway: Gateway, tmp_path: Path) -> None:
    """An empty place, and none, would be filled from journals that may be gone."""
    place = tmp_path / "place"
    gateway.claim(str(place))
    assert "is not there" in gateway.refusal(str(tmp_path / "empty"))
    assert "is not set" in gateway.refusal("")
    shutil.copytree(place, tmp_path / "copy")
    gateway.claim(str(tmp_path / "copy"))


def test_an_archive_moves_by_a_copy(gateway: Gateway, tmp_path: Path) -> None:
    """A gateway that has one in its state folder finds it in the new place, or does not start."""
    writer = ArchiveWriter(gateway.own)
    writer.append("w", 1, prediction("p1"))
    writer.flush()
    place = tmp_path / "place"
    assert "copy all of its files" in gateway.refusal(str(place))
    shutil.copytree(gateway.own, place, dirs_exist_ok=True)
    gateway.claim(str(place))
    assert ArchiveWriter(gateway.own, objects=Folder(place)).covered == {"w": 1}
