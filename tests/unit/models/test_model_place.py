"""A hub id is resolved once, to a snapshot that is checked as any folder, or refused at once."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from seal_core.errors import InputError
from seal_core.minilm import weights_path
from seal_core.models.files.model_digest import digest_model
from seal_core.models.files.model_place import find_model
from seal_core.models.loading import load_model
from tests.hub_server import NAME, Hub, serve_model
from tests.models import save_qwen2

FIRST, SECOND = "1" * 40, "2" * 40


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no hub that could be reached."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "cache" / "models--org--tiny"


@pytest.fixture
def hub(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve_model(save_qwen2(tmp_path / "served"), FIRST) as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = f"{server.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield server


def keep(cache: Path, commit: str, model_path: str | Path, ref: str = "main") -> Path:
    """Puts a model into the cache as `hf download` does."""
    snapshot = cache / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir(exist_ok=True)
    for file in Path(model_path).iterdir():
        blob = cache / "blobs" / f"{commit}-{file.name}"
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(blob)
    (cache / "refs").mkdir(exist_ok=True)
    (cache / "refs" / ref).write_text(commit)
    return snapshot


def test_a_cached_model_is_the_snapshot_of_its_revision(cache, model_path, tmp_path) -> None:
    first = keep(cache, FIRST, model_path)
    second = keep(cache, SECOND, save_qwen2(tmp_path / "other", seed=1), ref="v2")
    assert find_model(NAME) == find_model(NAME, FIRST) == str(first)
    assert find_model(NAME, "v2") == find_model(NAME, SECOND) == str(second)
    assert digest_model(str(first)).digest == digest_model(model_path).digest
    loaded = load_model(find_model(NAME, "v2"))
    assert loaded.name == NAME
    expected = load_model(str(tmp_path / "other")).model.state_dict()
    assert all(torch.equal(w, expected[name]) for name, w in loaded.model.state_dict().items())


def test_a_newer_main_on_the_hub_is_not_asked_for(hub, cache, model_path) -> None:
    hub.sha = SECOND
    kept = keep(cache, FIRST, model_path)
    assert find_model(NAME) == str(kept)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("adapter_config.json", "{}", "adapter would be applied"),
        ("config.json", '{"quantization_config": {"quant_method": "gptq"}}', r"quantized \(gptq\)"),
        ("config.json", "[]", "no JSON object"),
        ("config.json", '{"transformers_weights": "a.safetensors"}', "names other files to read"),
    ],
)
def test_a_snapshot_is_checked_as_any_folder(cache, model_path, name, content, message) -> None:
    snapshot = keep(cache, FIRST, model_path)
    (snapshot / name).unlink(missing_ok=True)
    (snapshot / name).write_text(content)
    with pytest.raises(InputError, match=message):
        find_model(NAME)


def test_what_is_read_is_fetched_and_nothing_else(hub, cache, monkeypatch) -> None:
    folder = hub.folder
    weights = folder / "model.safetensors"
    (folder / "parts").mkdir()
    weights.rename(folder / "parts" / "one.safetensors")
    index = {"metadata": {}, "weight_map": {"x": "parts/one.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tools.jinja").write_text("{{ messages }}")
    for unread in ("README.md", "pytorch_model.bin", "consolidated.safetensors", "onnx/a.json"):
        (folder / unread).parent.mkdir(exist_ok=True)
        (folder / unread).write_text("{}")
    found = Path(find_model(NAME))
    assert found == cache / "snapshots" / FIRST
    assert sorted(digest_model(str(found)).digests) == sorted(hub.asked)
    assert {"parts/one.safetensors", "additional_chat_templates/tools.jinja"} < set(hub.asked)
    assert not {"README.md", "consolidated.safetensors", "onnx/a.json"} & set(hub.asked)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    assert find_model(NAME) == str(found)


def test_shards_beside_whole_weights_are_not_fetched(hub) -> None:
    index = {"metadata": {}, "weight_map": {"x": "part.safetensors"}}
    (hub.folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (hub.folder / "part.safetensors").write_text("left from weights before these")
    found = find_model(NAME)
    assert "model.safetensors" in hub.asked and "part.safetensors" not in hub.asked
    assert load_model(found).name == NAME


def test_an_empty_name_is_not_the_current_folder(model_path, monkeypatch) -> None:
    monkeypatch.chdir(model_path)
    assert find_model(".") == str(Path(model_path))
    with pytest.raises(InputError, match=r"the model has no name: .* as model\.path"):
        find_model("")


def test_an_interrupted_download_is_completed(hub, cache) -> None:
    found = Path(find_model(NAME))
    for name in ("model.safetensors", "tokenizer_config.json"):
        (found / name).unlink()
        hub.asked.clear()
        assert find_model(NAME) == str(found)
        assert (found / name).is_file()


def test_weights_of_a_quantized_model_are_not_fetched(hub) -> None:
    (hub.folder / "config.json").write_text('{"quantization_config": {"quant_method": "awq"}}')
    with pytest.raises(InputError, match=r"org/tiny is quantized \(awq\)"):
        find_model(NAME)
    assert "model.safetensors" not in hub.asked


@pytest.mark.parametrize("name", [NAME, "modle"])
def test_a_name_that_is_neither_is_told_at_once(cache, name, monkeypatch) -> None:
    told = rf"there is no folder {name}, and the hub model {name} at v1 .*{{}}.*hf download {name}"
    # A library that tries again, for half a minute, sleeps in between.
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it tries again"))
    with pytest.raises(InputError, match=told.format("refused")):
        find_model(name, "v1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=told.format("offline mode")):
        find_model(name, "v1")


def test_a_model_that_the_hub_does_not_have(hub) -> None:
    with pytest.raises(InputError, match=r"there is no folder org/none, and .*Not Found"):
        find_model("org/none")


def test_a_folder_has_no_revision(model_path) -> None:
    for path in (model_path, "minilm"):
        with pytest.raises(InputError, match=r"is a folder, which has no model\.revision"):
            find_model(path, "main")
    assert find_model("minilm") == str(weights_path())
