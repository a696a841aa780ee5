"""Which place the archive is in: a folder of the state, or what `AUDITION_ARCHIVE` says.

Rules: a place elsewhere belongs to one state folder, and both carry the same id; an empty or
another place is refused, because the journals that filled the archive may be gone. A URL with
a secret in it is refused, and no message repeats one.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import fs as pa_fs

from gateway.archive import manifest as manifests
from gateway.archive.bucket import Bucket
from gateway.archive.objects import Folder, Objects
from gateway.errors import InvalidSetting

_SETTING = "AUDITION_ARCHIVE"
_PROBE = "probe/archive"
_SCHEMES = ("file", "s3", "gs", "gcs", "abfs", "abfss")
_FORGETFUL = ("fsspec+memory",)
_SECRET = ("secret", "key", "token", "password", "credential", "signature")


def objects_at(folder: Path, where: str) -> Objects:
    """The objects at `where`, a folder or a URL, or in `folder` if it is empty.

    Raises InvalidSetting for what cannot be one; whether it can be reached is not tried.
    """
    if not where:
        return Folder(folder)
    if "://" not in where:
        return Folder(Path(where).absolute())
    url = _split(where)
    try:
        filesystem, root = pa_fs.FileSystem.from_uri(where)
    except (OSError, ValueError, ImportError, pa.ArrowException) as error:
        raise InvalidSetting(
            f"{_SETTING}: no filesystem can be made of a URL of scheme {url.scheme}: {error}"
        ) from error
    if not root.strip("/"):
        raise InvalidSetting(f"{_SETTING}: {url.scheme}:// needs a bucket or a folder behind it")
    if isinstance(filesystem, pa_fs.LocalFileSystem):
        return Folder(Path(root))
    return Bucket(filesystem, root)


def claim(own: Path, where: str, *, mark: Path) -> None:
    """Make sure, before anything is served, that the archive at `where` is of this gateway and
    can be written. Raises InvalidSetting, CorruptArchive.

    `own` is the state's folder for archives; `mark` the file that keeps the place's id, which
    the place has under the same name.
    """
    marks, known = Folder(mark.parent), _id(Folder(mark.parent), mark.name)
    if not where:
        require_here(own, mark)
        return
    objects = objects_at(own, where)
    try:
        _probe(objects)
        there = _id(objects, mark.name)
    except OSError as error:
        raise InvalidSetting(
            f"{_SETTING}: the archive cannot be written and read there: {error}; check that the "
            "place exists and that this process may list, read, write and delete in it"
        ) from error
    if there != known:
        raise InvalidSetting(_refusal(mark, is_first=known is None))
    if known is None:
        _require_copied(objects, own)
        identity = secrets.token_hex(16).encode()
        _put(objects, mark.name, identity)
        _put(marks, mark.name, identity)


def require_here(own: Path, mark: Path) -> None:
    """Raise InvalidSetting where the archive of a state folder is not in it."""
    if mark.exists():
        raise InvalidSetting(
            f"{_SETTING}: is not set, and the archive of this state folder is elsewhere; set it "
            f"to that place again, or copy all files of the archive to {own} and remove {mark}"
        )


def _split(where: str) -> SplitResult:
    try:
        url = urlsplit(where)
    except ValueError:
        raise InvalidSetting(f"{_SETTING}: is no URL; see docs/settings.md for some") from None
    if url.scheme in _FORGETFUL or not (url.scheme in _SCHEMES or url.scheme.startswith("fsspec+")):
        raise InvalidSetting(
            f"{_SETTING}: an archive cannot be kept under {url.scheme}://; use a folder, "
            f"{', '.join(f'{scheme}://' for scheme in _SCHEMES)} or fsspec+SCHEME://"
        )
    if _has_secret(url):
        raise InvalidSetting(
            f"{_SETTING}: the URL carries credentials, which others could read; leave them out "
            "and give them as the storage's own tools take them, such as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, a profile, or the machine's role"
        )
    return url


def _has_secret(url: SplitResult) -> bool:
    user, _, _ = url.netloc.rpartition("@")
    names = [part.partition("=")[0].lower() for part in url.query.split("&")]
    return (
        ":" in user
        or (bool(user) and url.scheme == "s3")
        or any(secret in name for name in names for secret in _SECRET)
    )


def _probe(objects: Objects) -> None:
    """Put an object, replace it, read it and take it away, as the manifest will be."""
    for content in (secrets.token_bytes(16), secrets.token_bytes(16)):
        _put(objects, _PROBE, content)
        if objects.read(_PROBE) != content:
            raise OSError("what was written does not come back")
    objects.delete(_PROBE)


def _refusal(mark: Path, *, is_first: bool) -> str:
    if is_first:
        return (
            f"{_SETTING}: the archive there belongs to another state folder than {mark.parent}; "
            f"give this one a place of its own, or, if the other is gone for ever, remove "
            f"{mark.name} there"
        )
    return (
        f"{_SETTING}: the archive of {mark.parent} is not there; set it to the place it had "
        f"before, or copy everything from there, {mark.name} too"
    )


def _require_copied(objects: Objects, own: Path) -> None:
    """A gateway that has an archive already must find it in its new place."""
    if manifests.load(objects).sequence < manifests.load(Folder(own)).sequence:
        raise InvalidSetting(
            f"{_SETTING}: this gateway has an archive in {own}; copy all of its files there first, "
            f"{manifests.NAME} last"
        )


def _put(objects: Objects, path: str, content: bytes) -> None:
    objects.put(path, lambda file: file.write(content))


def _id(objects: Objects, name: str) -> str | None:
    try:
        return objects.read(name).decode(errors="replace").strip()
    except FileNotFoundError:
        return None
