"""Speaks vLLM's HTTP interface without a model: answers follow from prompt and adapter alone.

Runs as `vllm.entrypoints.openai.api_server` of a package that `install` makes. A plan of faults
says which of the requests, counted over all lives of the server, go wrong and how; a log of all
requests is kept. Both lie in the folder that the environment names.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FOLDER = "SCRIPTED_VLLM"
END = 256
_MAIN = "vllm/entrypoints/openai/api_server.py"


def install(site: Path, version: str = "0.32.0") -> None:
    """Makes a package `vllm` in a folder for PYTHONPATH."""
    module = site / _MAIN
    module.parent.mkdir(parents=True)
    for folder in (module.parent, module.parent.parent, module.parent.parent.parent):
        (folder / "__init__.py").touch()
    shutil.copy(__file__, module)
    info = site / f"vllm-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")


def plan(folder: Path, **faults: Mapping[int, str] | Mapping[str, str]) -> None:
    """Plans what goes wrong: by the last part of a path (or `start`), by count, a fault.

    The count is over all lives of the server, or within one: `2/0` is the first of its second.
    Faults: an HTTP status; `die`, `drop` (the connection), `lose` (the answer), `hang`, `forget`
    (all adapters), `abort`, `nan` (a log-probability), or for `start` a last word.
    """
    (folder / "faults.json").write_text(json.dumps(faults))


def requests(folder: Path) -> list[dict[str, Any]]:
    """All requests so far: `path`, `body`, `loaded` adapters when it came, the server's `port`."""
    log = folder / "requests.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def first_token(weights: Path | None) -> int:
    """The token that an answer with this adapter begins with."""
    if weights is None:
        return ord("b")
    return ord("A") + zlib.crc32((weights / "adapter_model.safetensors").read_bytes()) % 26


class Script:
    """What the server remembers; counts are kept on disk, over its deaths."""

    def __init__(self, folder: Path, model: str) -> None:
        self.folder = folder
        self.model = model
        self.port = 0
        self.adapters: dict[str, Path] = {}
        self.lock = threading.Lock()
        self.life = 0
        self.counts: Counter[str] = Counter()

    def fault(self, name: str) -> str | None:
        with self.lock:
            file = self.folder / f"count-{name}"
            count = int(file.read_text()) if file.exists() else 0
            whole = file.with_suffix(".new")  # another thread may end the process any moment
            whole.write_text(str(count + 1))
            whole.replace(file)
            own = self.counts[name]
            self.counts[name] += 1
        path = self.folder / "faults.json"
        faults = json.loads(path.read_text()) if path.exists() else {}
        planned = faults.get(name, {})
        found = planned.get(str(count), planned.get("all"))
        return planned.get(f"{self.life}/{own}", found)

    def note(self, path: str, body: Any) -> None:
        with self.lock, (self.folder / "requests.jsonl").open("a") as log:
            line = {"path": path, "body": body, "loaded": sorted(self.adapters), "port": self.port}
            log.write(json.dumps(line) + "\n")


class Handler(BaseHTTPRequestHandler):
    """One request."""

    script: Script
    key: str
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the script keeps its own log."""

    def do_GET(self) -> None:
        """Health, and the models that are served."""
        if self.path == "/health":
            return self.reply(200, {})
        cards = [{"id": "base", "root": self.script.model, "parent": None, "max_model_len": 128}]
        cards += [{"id": name, "parent": "base"} for name in self.script.adapters]
        return self.reply(200, {"data": cards})

    def do_POST(self) -> None:
        """Loads, unloads or answers, unless a fault is planned."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = self.path.rpartition("/")[2]
        if self.headers.get("Authorization", "").removeprefix("Bearer ") != self.key:
            return self.error(401, "Unauthorized")
        fault = self.script.fault(name)
        self.script.note(name, body)
        if fault == "die":
            print("RuntimeError: the scripted engine was told to die", flush=True)
            os._exit(7)
        if fault == "hang":
            threading.Event().wait()
        if fault == "forget":
            self.script.adapters.clear()
        if fault == "drop":
            self.close_connection = True
            return None
        if fault is not None and fault.isdecimal():
            return self.error(int(fault), f"planned {fault}")
        status, answer = getattr(self, name)(body)
        if fault == "nan":
            answer["choices"][0]["logprobs"]["token_logprobs"][0] = float("nan")
        if fault == "abort":
            answer["choices"][0]["finish_reason"] = "abort"
        if fault == "lose":
            self.close_connection = True
            return None
        return self.reply(status, answer)

    def load_lora_adapter(self, body: dict[str, Any]) -> tuple[int, Any]:
        name = body["lora_name"]
        if name in self.script.adapters:
            return 400, _error(400, f"The lora adapter '{name}' has already been loaded.")
        self.script.adapters[name] = Path(body["lora_path"])
        return 200, "Success"

    def unload_lora_adapter(self, body: dict[str, Any]) -> tuple[int, Any]:
        if self.script.adapters.pop(body["lora_name"], None) is None:
            return 404, _error(404, "cannot be found")
        return 200, "Success"

    def completions(self, body: dict[str, Any]) -> tuple[int, Any]:
        model, prompt = body["model"], body["prompt"]
        weights = self.script.adapters.get(model)
        if weights is None and model != "base":
            return 404, _error(404, f"The model `{model}` does not exist.")
        time.sleep(0.02)
        ids = [first_token(weights), *prompt[: body["max_tokens"] - 2], END]
        scores = [None, *({str(token): {"logprob": -0.25}} for token in prompt[1:])]
        choice = {
            "finish_reason": "stop",
            "token_ids": ids,
            "logprobs": {"token_logprobs": [-0.5] * len(ids)},
            "prompt_logprobs": scores if "prompt_logprobs" in body else None,
        }
        return 200, {"choices": [choice]}

    def error(self, status: int, message: str) -> None:
        self.reply(status, _error(status, message))

    def reply(self, status: int, answer: Any) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _error(status: int, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "code": status}}


def serve(port: int, model: str) -> ThreadingHTTPServer:
    """A server that is ready to run."""
    Handler.script = Script(Path(os.environ[FOLDER]), model)
    Handler.key = os.environ.get("VLLM_API_KEY", "")
    last_word = Handler.script.fault("start")
    Handler.script.life = int((Handler.script.folder / "count-start").read_text())
    if last_word is not None:
        sys.exit(last_word)
    ThreadingHTTPServer.request_queue_size = 256
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    Handler.script.port = server.server_port
    return server


if __name__ == "__main__":
    arguments = dict(zip(sys.argv, sys.argv[1:], strict=False))
    serve(int(arguments["--port"]), arguments["--model"]).serve_forever()
