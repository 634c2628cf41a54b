"""Stores in Google Cloud Storage: whole objects, made once by generation preconditions, checked by CRC32C."""

from __future__ import annotations

import base64
import hashlib
import os
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TypeVar

from gnome_core.caches import cache_folder
from gnome_core.files import replacing
from pipelines.errors import StoreError, UserError

TIMEOUT = (10.0, 120.0)  # s to connect, and without a byte of an answer
GIVE_UP = 300.0  # s of retries of one request
LISTINGS = 3  # tries at a listing whose page token expires

T = TypeVar("T")


@dataclass(frozen=True)
class Bucket:
    """Objects of the bucket `name` below `prefix`, which is empty or ends with a slash."""

    name: str
    prefix: str

    @classmethod
    def at(cls, root: str) -> Bucket:
        """The bucket of `gs://BUCKET/PATH`. Raises UserError for another address, or without the extra."""
        name, _, path = root.removeprefix("gs://").partition("/")
        if not root.startswith("gs://") or not name:
            raise UserError(f"{root}: a store is a local folder or gs://BUCKET/PATH")
        try:
            import google.cloud.storage  # noqa: F401
        except ImportError:
            raise UserError(f"{root}: stores in buckets need `pip install 'gnome-flywheel[gcs]'`") from None
        path = path.strip("/")
        return cls(name, f"{path}/" if path else "")

    def read(self, path: str) -> bytes:
        with self._explained(path):
            return self._blob(path).download_as_bytes(checksum="crc32c", retry=_retry(), timeout=TIMEOUT)

    def write(self, path: str, data: bytes) -> None:
        with self._explained(path):
            self._upload(self._blob(path), data, None)

    def create(self, path: str, data: bytes) -> bool:
        from google.api_core.exceptions import PreconditionFailed

        blob = self._blob(path)
        blob.metadata = {"writer": uuid.uuid4().hex}
        with self._explained(path):
            try:
                self._upload(blob, data, 0)
            except PreconditionFailed:
                # The try whose answer was lost may have been ours.
                there = blob.bucket.get_blob(blob.name, retry=_retry(), timeout=TIMEOUT)
                return there is not None and (there.metadata or {}).get("writer") == blob.metadata["writer"]
        return True

    def exists(self, path: str) -> bool:
        with self._explained(path):
            return self._blob(path).exists(retry=_retry(), timeout=TIMEOUT)

    def children(self, path: str) -> list[str]:
        folder = self._folder(path)

        def names() -> list[str]:
            listing = self._list(folder, delimiter="/")
            found = {blob.name.removeprefix(folder) for blob in listing}
            found |= {prefix.removeprefix(folder).rstrip("/") for prefix in listing.prefixes}
            return sorted(found - {""})

        return self._again(path, names)

    def files(self, path: str) -> dict[str, int]:
        def sizes() -> dict[str, int]:
            return {blob.name.removeprefix(self.prefix): blob.size for blob in self._list(self._folder(path))}

        return dict(sorted(self._again(path, sizes).items()))

    def delete(self, path: str) -> None:
        try:
            with self._explained(path):
                self._blob(path).delete(retry=_retry(), timeout=TIMEOUT)
        except FileNotFoundError:
            pass

    def _folder(self, path: str) -> str:
        return self.prefix if path in ("", ".") else f"{self.prefix}{path}/"

    def _list(self, folder: str, **options: str):
        return _client(os.getpid()).list_blobs(self.name, prefix=folder, retry=_retry(), timeout=TIMEOUT, **options)

    def _again(self, path: str, listed: Callable[[], T]) -> T:
        """A whole listing, begun again if a page token expires."""
        from google.api_core.exceptions import ClientError

        for last in (False,) * (LISTINGS - 1) + (True,):
            try:
                with self._explained(path):
                    return listed()
            except FileNotFoundError:
                raise UserError(f"gs://{self.name}: there is no such bucket; deploy/terraform makes one") from None
            except ClientError as error:
                if last or error.code not in (400, 410):
                    raise
        raise AssertionError

    def checksum(self, path: str) -> tuple[int, str]:
        blob = self._blob(path)
        with self._explained(path):
            blob.reload(retry=_retry(), timeout=TIMEOUT)
        return blob.size, base64.b64decode(blob.crc32c).hex()

    def version(self, path: str) -> int:
        blob = self._blob(path)
        with self._explained(path):
            blob.reload(retry=_retry(), timeout=TIMEOUT)
        return blob.generation

    def address(self, path: str) -> str:
        return f"gs://{self.name}/{self.prefix}{path}"

    def local_path(self, path: str) -> None:
        return None

    def fetch(self, path: str) -> str:
        parts = PurePosixPath(path).parts
        if ".." in parts or path.startswith("/"):
            raise StoreError(f"{path!r} is no path of {self.address('')}")
        copy = _cache(self.address("")).joinpath(*parts)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            with self._explained(path), replacing(copy) as file:
                self._blob(path).download_to_file(file, checksum="crc32c", retry=_retry(), timeout=TIMEOUT)
        return str(copy)

    def _blob(self, path: str):
        return _client(os.getpid()).bucket(self.name).blob(self.prefix + path)

    def _upload(self, blob, data: bytes, generation: int | None) -> None:
        kind = "application/json" if blob.name.endswith(".json") else "application/octet-stream"
        blob.upload_from_string(
            data,
            content_type=kind,
            if_generation_match=generation,
            checksum="crc32c",
            retry=_retry(),
            timeout=TIMEOUT,
        )

    @contextmanager
    def _explained(self, path: str) -> Generator[None]:
        """What is missing as FileNotFoundError, what is forbidden as UserError; all else is for the runner to retry."""
        from google.api_core.exceptions import Forbidden, NotFound, Unauthorized
        from google.auth.exceptions import DefaultCredentialsError, RefreshError

        try:
            yield
        except NotFound:
            raise FileNotFoundError(self.address(path)) from None
        except (Forbidden, Unauthorized) as error:
            raise UserError(
                f"{self.address(path)}: {error.message}; the account needs roles/storage.objectUser on the bucket"
            ) from None
        except (DefaultCredentialsError, RefreshError) as error:
            raise UserError(
                f"{self.address(path)}: {error}; `gcloud auth application-default login` gives credentials"
            ) from None


@lru_cache(maxsize=1)
def _client(process: int):
    """The process's client; one that was inherited by a fork would share its connections."""
    from google.cloud import storage

    return storage.Client()


@lru_cache(maxsize=1)
def _retry():
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_delay(initial=0.5, maximum=30.0, multiplier=2.0).with_timeout(GIVE_UP)


def _cache(root: str) -> Path:
    """Folder of copies of a store's files, which never change."""
    return cache_folder() / "stores" / hashlib.blake2b(root.encode(), digest_size=8).hexdigest()
