"""A hub of one model on this machine, for tests of what is fetched and from where."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

NAME = "org/tiny"


class Hub(ThreadingHTTPServer):
    """Serves a folder as the only model, at the commit `sha`.

    Attributes:
        asked: Names of the files that were fetched.
    """

    daemon_threads = True

    def __init__(self, folder: Path, sha: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.sha = folder, sha
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def serve_model(folder: Path, sha: str) -> Iterator[Hub]:
    """Ends the server with the block."""
    with Hub(folder, sha) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        try:
            yield hub
        finally:
            hub.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        files = sorted(file for file in self.server.folder.rglob("*") if file.is_file())
        names = {str(file.relative_to(self.server.folder)): file for file in files}
        api = f"/api/models/{NAME}/"
        if path.startswith(f"{api}revision/") and path.endswith(("/main", self.server.sha)):
            siblings = [{"rfilename": name} for name in names]
            self._json({"id": NAME, "sha": self.server.sha, "siblings": siblings})
        elif path.startswith(f"{api}tree/{self.server.sha}"):
            rows = [(name, file.stat().st_size) for name, file in names.items()]
            self._json([{"type": "file", "path": n, "size": s, "oid": n} for n, s in rows])
        elif (name := path.removeprefix(f"/{NAME}/resolve/{self.server.sha}/")) in names:
            self._file(name, names[name].read_bytes())
        else:
            self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def _json(self, value: object) -> None:
        self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _file(self, name: str, content: bytes) -> None:
        if self.command == "GET":
            self.server.asked.append(name)
        etag = hashlib.sha256(content).hexdigest()
        self._answer(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": self.server.sha})

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Silence."""
