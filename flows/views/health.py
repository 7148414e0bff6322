"""The checks behind `seal doctor`: what is found, whether it will do, and how to mend it."""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from flows.checks import Check
from flows.views.store_health import disk_check, store_check
from seal_core.errors import InputError
from seal_core.generation.vllm.checks import check_server
from seal_core.generation.vllm.options import PINNED, find_vllm
from seal_core.minilm import weights_path
from seal_core.probe.verdict_files import remembered_verdicts
from storage.files.roots import local_state_root
from storage.runs.status import verdict_folder

_DISTRIBUTION = "seal-pipeline"


def all_checks(store: str, vllm: str | None = None) -> list[Check]:
    """Every check, in the order in which a new user needs them."""
    checks = [
        *version_checks(),
        device_check(),
        model_check(),
        *verdict_checks(store),
        store_check(store),
        disk_check(store),
    ]
    checks.append(prefect_check())
    checks.append(vllm_check() if vllm is None else vllm_server_check(vllm))
    return checks


def version_checks() -> list[Check]:
    """Installed versions against the pins of this package."""
    pins = [Requirement(text) for text in requires(_DISTRIBUTION) or []]
    return [_version_check(pin) for pin in pins if pin.marker is None or pin.marker.evaluate()]


def _version_check(pin: Requirement) -> Check:
    fix = f'pip install -c constraints.txt "{pin}"'
    try:
        found = version(pin.name)
    except PackageNotFoundError:
        return Check(pin.name, "fail", "not installed", fix)
    if pin.specifier.contains(re.sub(r"\+.*", "", found), prereleases=True):
        return Check(pin.name, "ok", found)
    return Check(pin.name, "fail", f"{found}, but {pin.specifier} is needed", fix)


def device_check() -> Check:
    """Where tensors will live."""
    # torch takes seconds to import, and most commands do without it.
    import torch  # noqa: PLC0415

    if torch.cuda.is_available():
        return Check("device", "ok", f"cuda: {torch.cuda.get_device_name()}")
    found = f"cpu, {os.cpu_count()} cores"
    return Check("device", "warn", found, "for models above 1B parameters, install a CUDA torch")


def model_check() -> Check:
    """The embedded default model."""
    folder = weights_path()
    if (folder / "model.safetensors").is_file():
        return Check("embedded model", "ok", "packaged weights found")
    return Check(
        "embedded model",
        "fail",
        "weights are missing",
        "reinstall the package, or rebuild them with `seal minilm build`",
    )


def verdict_checks(store: str) -> list[Check]:
    """How the models of the store's runs are used on this machine, as far as they were tried."""
    try:
        folder = verdict_folder(local_state_root(store))
    except InputError:
        return []  # The store's own check says what is wrong with it.
    checks = []
    for name, verdict in remembered_verdicts(folder):
        state = "ok" if verdict.is_fast else "warn"
        fix = None if verdict.is_fast else "docs/models.md lists the models that are used fast"
        checks.append(Check("model", state, f"{name}: {verdict}", fix))
    return checks


def prefect_check() -> Check:
    """The Prefect server, if one is configured; without one each run starts its own."""
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        return Check(
            "prefect server",
            "warn",
            "none configured: each run starts its own (10-20 s)",
            "`prefect server start`, then set PREFECT_API_URL",
        )
    return _http_check(
        "prefect server",
        f"{url.rstrip('/')}/health",
        "start it with `prefect server start`, or unset PREFECT_API_URL",
    )


def vllm_check() -> Check:
    """The vLLM that a run with `engine.kind = "vllm"` would start."""
    try:
        found = find_vllm()
    except InputError as error:
        return Check("vllm", "warn", f"{error}", "only needed for engine.kind = 'vllm'")
    what = f"{found.version}{' for the CPU' if found.cpu else ''}, {found.python}"
    if found.version.partition("+")[0] == PINNED:
        return Check("vllm", "ok", what)
    return Check("vllm", "warn", what, f"tested with {PINNED}: see docs/vllm.md")


def vllm_server_check(url: str) -> Check:
    """Whether a running vLLM server will do: reachable, and loading adapters."""
    try:
        model = check_server(url.rstrip("/"))
    except InputError as error:
        return Check("vllm server", "fail", str(error), "see docs/vllm.md")
    return Check("vllm server", "ok", f"{url} serves {model}")


def _http_check(name: str, url: str, fix: str) -> Check:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return Check(name, "ok", f"{url} answers {response.status}")
    except (urllib.error.URLError, OSError, ValueError) as error:
        return Check(name, "fail", f"{url}: {error}", fix)
