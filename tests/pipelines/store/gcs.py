"""A loopback double of Google Cloud Storage's JSON API that keeps its promises, and breaks them on request.

Kept: generations and their preconditions, atomic objects, checksums of what is uploaded, pages of listings, resumable
uploads in chunks. On request: answers that are errors, that are late, that are lost after the deed, listings of the
past and page tokens that expire.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c


@dataclass(frozen=True)
class Stored:
    """One generation of an object."""

    data: bytes
    generation: int
    metadata: dict


@dataclass
class Fault:
    """What happens to the next `times` requests whose "METHOD path?query" matches. status 0: only the delay.

    done_first: the request takes effect, and only its answer is the error.
    """

    pattern: str
    status: int = 503
    times: int = 1
    done_first: bool = False
    delay: float = 0.0


@dataclass
class Answer:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class _Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # a client that is killed is no error


class FakeGcs:
    """A running server; `url` is what STORAGE_EMULATOR_HOST is set to. page: most objects a page of a listing."""

    def __init__(self, *buckets: str, page: int = 1000):
        self.buckets: dict[str, dict[str, Stored]] = {bucket: {} for bucket in buckets}
        self.page, self.faults, self.log = page, [], []
        self.lock = threading.RLock()
        self.generation = time.time_ns() // 1_000  # as the service counts: never twice the same for one name
        self.uploads: dict[str, tuple[str, dict, dict, bytearray]] = {}
        self.past: dict[str, dict[str, Stored]] | None = None
        self.tokens_expire = 0
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else each answer's body waits 40 ms for word of its headers

            def handle_one(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                try:
                    answer = fake.answer(self.command, self.path, self.headers, body)
                    self.send_response(answer.status)
                    for name, value in answer.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(answer.body)))
                    self.end_headers()
                    self.wfile.write(answer.body)
                except (BrokenPipeError, ConnectionResetError):  # the client gave up waiting
                    self.close_connection = True

            do_GET = do_POST = do_PUT = do_DELETE = handle_one

            def log_message(self, *_: object) -> None:
                pass

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> FakeGcs:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    # misbehaviour

    def fail(self, pattern: str, **how) -> None:
        self.faults.append(Fault(pattern, **how))

    def list_the_past(self) -> None:
        """From now on listings show what there is now; None of `past` ends it."""
        self.past = {bucket: dict(objects) for bucket, objects in self.buckets.items()}

    def requests(self, pattern: str) -> list[tuple[str, int]]:
        """(request, status) of the requests that matched, in the order of their answers."""
        return [(line, status) for line, status in self.log if re.search(pattern, line)]

    # requests

    def answer(self, method: str, target: str, headers, body: bytes) -> Answer:
        line = f"{method} {unquote(target)}"
        with self.lock:
            fault = next((f for f in self.faults if f.times and re.search(f.pattern, line)), None)
            if fault:
                fault.times -= 1
        if fault and fault.delay:
            time.sleep(fault.delay)
        if fault and fault.status and not fault.done_first:
            answer = _error(fault.status, "injected")
        else:
            with self.lock:
                answer = self.route(method, target, headers, body)
            if fault and fault.status:
                answer = _error(fault.status, "injected after the deed")
        self.log.append((line, answer.status))
        return answer

    def route(self, method: str, target: str, headers, body: bytes) -> Answer:
        url = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        if about := re.fullmatch(r"/storage/v1/b/([^/]+)", url.path):
            known = unquote(about[1]) in self.buckets
            return _json({"kind": "storage#bucket", "name": unquote(about[1])}) if known else _error(404, "no bucket")
        found = re.fullmatch(r"(/upload|/download)?/storage/v1/b/([^/]+)/o(?:/(.+))?", url.path)
        if not found:
            return _error(404, f"no route for {url.path}")
        bucket, name = unquote(found[2]), unquote(found[3] or "")
        if bucket not in self.buckets:
            return _error(404, "The specified bucket does not exist.")
        if found[1] == "/upload":
            return self.upload(method, bucket, query, headers, body)
        if not name:
            return self.list(bucket, query)
        stored = self.buckets[bucket].get(name)
        if stored is None:
            return _error(404, f"No such object: {bucket}/{name}")
        if method == "DELETE":
            if refused := self.refuse(bucket, name, query):
                return refused
            del self.buckets[bucket][name]
            return Answer(204)
        if query.get("alt") == "media" or found[1] == "/download":
            return self.media(stored, headers.get("Range"))
        return _json(resource(bucket, name, stored))

    def media(self, stored: Stored, range_: str | None) -> Answer:
        crc, md5 = checksums(stored.data)
        headers = {"X-Goog-Hash": f"crc32c={crc},md5={md5}", "X-Goog-Generation": str(stored.generation)}
        headers["Content-Type"] = "application/octet-stream"
        if not range_:
            return Answer(200, stored.data, headers)
        first, _, last = range_.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(stored.data)), len(stored.data) - 1)
        if start >= len(stored.data):
            return Answer(416, b"", {"Content-Range": f"bytes */{len(stored.data)}"})
        headers["Content-Range"] = f"bytes {start}-{end}/{len(stored.data)}"
        return Answer(206, stored.data[start : end + 1], headers)

    def list(self, bucket: str, query: dict) -> Answer:
        objects = (self.past or self.buckets)[bucket]
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        entries: dict[str, Stored | None] = {}
        for name, stored in objects.items():
            if name.startswith(prefix):
                head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
                entries[f"{prefix}{head}{delimiter}" if found else name] = None if found else stored
        names = sorted(entries)
        if token := query.get("pageToken"):
            if self.tokens_expire:
                self.tokens_expire -= 1
                return _error(400, "Invalid argument: page token has expired")
            names = [name for name in names if name > base64.urlsafe_b64decode(token).decode()]
        size = min(int(query.get("maxResults", self.page)), self.page)
        page: dict = {"kind": "storage#objects", "items": [], "prefixes": []}
        for name in names[:size]:
            stored = entries[name]
            page["prefixes" if stored is None else "items"].append(
                name if stored is None else resource(bucket, name, stored)
            )
        if len(names) > size:
            page["nextPageToken"] = base64.urlsafe_b64encode(names[size - 1].encode()).decode()
        return _json(page)

    def upload(self, method: str, bucket: str, query: dict, headers, body: bytes) -> Answer:
        kind = query.get("uploadType")
        if method == "PUT":
            return self.resume(query["upload_id"], headers, body)
        if kind == "media":
            return self.insert(bucket, query, {"name": query["name"]}, body)
        if kind == "multipart":
            message = BytesParser(policy=HTTP).parsebytes(
                f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body
            )
            described, _ = message.iter_parts()
            return self.insert(bucket, query, json.loads(described.get_payload(decode=True)), _raw_part(body, headers))
        if kind == "resumable":
            described = {"name": query.get("name"), **(json.loads(body) if body else {})}
            id_ = uuid.uuid4().hex
            self.uploads[id_] = (bucket, query, described, bytearray())
            where = f"{self.url}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={id_}"
            return Answer(200, b"", {"Location": where})
        return _error(400, f"uploadType {kind!r}")

    def resume(self, id_: str, headers, body: bytes) -> Answer:
        if id_ not in self.uploads:
            return _error(404, "no such upload")
        bucket, query, described, held = self.uploads[id_]
        span, _, total = (headers.get("Content-Range") or f"bytes 0-{len(body) - 1}/{len(body)}")[6:].partition("/")
        if span != "*":
            start = int(span.partition("-")[0])
            if start > len(held):
                return _error(400, f"chunk at {start}, but {len(held)} bytes were persisted")
            held[start:] = body
        if total != "*" and len(held) == int(total):
            answer = self.insert(bucket, query, described, bytes(held))
            if answer.status == 200:
                del self.uploads[id_]
            return answer
        return Answer(308, b"", {"Range": f"bytes=0-{len(held) - 1}"} if held else {})

    def insert(self, bucket: str, query: dict, described: dict, data: bytes) -> Answer:
        name = described.get("name") or query["name"]
        if refused := self.refuse(bucket, name, query):
            return refused
        crc, md5 = checksums(data)
        if described.get("crc32c", crc) != crc or described.get("md5Hash", md5) != md5:
            return _error(400, "Provided checksum doesn't match calculated checksum")
        self.generation += 1
        self.buckets[bucket][name] = Stored(data, self.generation, described.get("metadata") or {})
        return _json(resource(bucket, name, self.buckets[bucket][name]))

    def refuse(self, bucket: str, name: str, query: dict) -> Answer | None:
        stored = self.buckets[bucket].get(name)
        generation = str(stored.generation) if stored else "0"
        if query.get("ifGenerationMatch", generation) != generation or query.get("ifGenerationNotMatch") == generation:
            return _error(412, "At least one of the pre-conditions you specified did not hold.")
        return None


def _raw_part(body: bytes, headers) -> bytes:
    """The second part of a multipart/related body, untouched (the email package may change line ends)."""
    boundary = re.search(rb'boundary="?([^";]+)"?', headers["Content-Type"].encode())[1]
    part = body.split(b"--" + boundary)[2]
    return part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


def resource(bucket: str, name: str, stored: Stored) -> dict:
    crc, md5 = checksums(stored.data)
    return {
        "kind": "storage#object",
        "bucket": bucket,
        "name": name,
        "generation": str(stored.generation),
        "metageneration": "1",
        "size": str(len(stored.data)),
        "crc32c": crc,
        "md5Hash": md5,
        "metadata": stored.metadata,
    }


def checksums(data: bytes) -> tuple[str, str]:
    """(CRC32C, MD5), base64 as the API writes them."""
    crc = google_crc32c.value(data).to_bytes(4, "big")
    return base64.b64encode(crc).decode(), base64.b64encode(hashlib.md5(data).digest()).decode()


def _json(document: dict) -> Answer:
    return Answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})


def _error(status: int, message: str) -> Answer:
    document = {"error": {"code": status, "message": message, "errors": [{"message": message}]}}
    return Answer(status, json.dumps(document).encode(), {"Content-Type": "application/json"})
