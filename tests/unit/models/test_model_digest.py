"""The digest of a model covers what may be read of it, and a change is told by file."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from seal_core.errors import InputError
from seal_core.models.files.model_digest import differences, digest_model


@pytest.fixture
def folder(model_path, tmp_path) -> Path:
    return Path(shutil.copytree(model_path, tmp_path / "model"))


def digest_of(folder: Path, cache: Path | None = None, *, rehash: bool = False) -> str:
    return digest_model(str(folder), cache, rehash).digest


def test_the_digest_is_of_names_and_contents(folder, model_path, tmp_path) -> None:
    first = digest_of(folder)
    assert first == digest_of(model_path)
    (folder / "README.md").write_text("a note")
    assert digest_of(folder) == first
    config = folder / "config.json"
    config.write_text(config.read_text() + "\n")
    assert digest_of(folder) != first


def test_the_cache_spares_hashing_until_a_file_changes(folder, tmp_path) -> None:
    cache = tmp_path / "cache" / "digests.json"
    first = digest_of(folder, cache)
    known = json.loads(cache.read_text())
    assert str(folder / "config.json") in known
    weights = folder / "model.safetensors"
    known[str(weights)][-1] = "0" * 64
    cache.write_text(json.dumps(known))
    faked = digest_of(folder, cache)
    assert faked != first  # The cached digest was believed.
    os.utime(weights, ns=(1, 1))
    assert digest_of(folder, cache) == first
    cache.write_text("{")
    assert digest_of(folder, cache) == first


@pytest.mark.parametrize("in_place", [True, False])
def test_other_weights_of_the_same_size_and_time_are_another_model(
    folder, tmp_path, in_place
) -> None:
    """As `cp -p`, `rsync -t` and image layers leave them."""
    cache, weights = tmp_path / "digests.json", folder / "model.safetensors"
    first, stat = digest_of(folder, cache), weights.stat()
    other = bytearray(weights.read_bytes())
    other[-1] ^= 1
    place = weights if in_place else tmp_path / "other"
    place.write_bytes(other)
    os.utime(place, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    place.rename(weights)
    assert (weights.stat().st_size, weights.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    found = digest_of(folder, cache)
    assert found != first
    assert found == digest_of(folder)


def test_rehash_believes_nothing_of_this_model_and_keeps_the_others(folder, tmp_path) -> None:
    cache = tmp_path / "digests.json"
    first = digest_of(folder, cache)
    known = json.loads(cache.read_text())
    known[str(folder / "model.safetensors")][-1] = "0" * 64
    known["/another/model.safetensors"] = [1, 2, 3, 4, "f" * 64]
    cache.write_text(json.dumps(known))
    assert digest_of(folder, cache) != first
    assert digest_of(folder, cache, rehash=True) == first
    assert digest_of(folder, cache) == first
    assert json.loads(cache.read_text())["/another/model.safetensors"][-1] == "f" * 64


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)


@pytest.mark.parametrize(
    "name",
    [
        "additional_chat_templates/tools.jinja",
        "weights/model-1.safetensors",
        "sentencepiece.bpe.model",
        "tekken.json",
    ],
)
def test_all_that_may_be_read_is_in_the_digest(folder, name) -> None:
    index = {"metadata": {}, "weight_map": {"a": "weights/model-1.safetensors"}}
    (folder / "model.safetensors").unlink()
    write(folder, "model.safetensors.index.json", json.dumps(index))
    before = digest_model(str(folder))
    write(folder, name, "{}")
    with_it = digest_model(str(folder))
    write(folder, name, "{ }")
    digests = {before.digest, with_it.digest, digest_of(folder)}
    assert len(digests) == 3
    assert differences(before.digests, with_it.digests) == f"new: {name}"


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "LICENSE",
        ".gitattributes",
        "pytorch_model.bin",
        "original/a.safetensors",
        "a.safetensors",
    ],
)
def test_what_no_library_reads_is_not(folder, name) -> None:
    before = digest_of(folder)
    write(folder, name, "text")
    assert digest_of(folder) == before


def test_a_change_is_told_by_file_and_a_touch_is_none(folder) -> None:
    files = digest_model(str(folder))
    (folder / "README.md").write_text("a note")
    os.utime(folder / "model.safetensors", ns=(1, 1))
    files.check()
    files.check()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    (folder / "generation_config.json").unlink()
    write(folder, "vocab.json", "{}")
    told = (
        r"changed while it was in use \(other: model\.safetensors; new: vocab\.json; "
        r"gone: generation_config\.json\).* --name NEW"
    )
    for _ in range(2):
        with pytest.raises(InputError, match=told):
            files.check()


def test_a_file_that_cannot_be_read_is_the_users_error(folder, monkeypatch) -> None:
    def deny(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "model.safetensors")

    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(InputError, match=r"cannot read the model in .*Permission denied"):
        digest_model(str(folder))
