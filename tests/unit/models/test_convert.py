"""A GGUF becomes a Hugging Face folder of the same model, or is refused with the reason."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from seal_core.errors import InputError
from seal_core.models.files import convert as convert_module
from seal_core.models.files import gguf_file
from seal_core.models.files.convert import convert
from seal_core.models.files.model_files import check_model_folder
from seal_core.models.loading import load_model
from tests.gguf_files import TEMPLATE, small_llama, write_gguf

IDS = torch.arange(3, 90)[None]


@pytest.fixture(scope="module")
def model():
    return small_llama()


@pytest.fixture(scope="module")
def plain(model, tmp_path_factory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "plain.gguf", model)


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS).logits.float()


def distance(found: torch.Tensor, right: torch.Tensor) -> float:
    return float((found - right).norm() / right.norm())


def test_the_folder_holds_the_model_that_the_gguf_was_made_of(model, plain, tmp_path) -> None:
    out = tmp_path / "out"
    assert convert(plain, out).n_weights == sum(p.numel() for p in model.parameters())
    loaded = load_model(str(out))
    assert distance(logits(loaded.model), logits(model)) < 1e-5
    assert loaded.tokenizer.chat_template == TEMPLATE
    assert loaded.eos_id == 256 and loaded.context == 256
    assert not getattr(loaded.model, "is_quantized", False)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(("dtype", "limit"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_a_quantized_one_is_unpacked_as_the_gguf_package_does(tmp_path, dtype, limit) -> None:
    model, kind = small_llama(), gguf.GGMLQuantizationType.Q8_0
    file = write_gguf(tmp_path / "q8.gguf", model, kind)
    convert(tmp_path, tmp_path / "out", dtype)
    exact = logits(model)
    for weight in model.parameters():
        if weight.ndim == 2:
            unpacked = gguf.dequantize(gguf.quantize(weight.detach().numpy(), kind), kind)
            weight.data = torch.from_numpy(unpacked)
    loaded = load_model(str(tmp_path / "out"), dtype="float32")
    assert distance(logits(loaded.model), logits(model)) < limit
    assert distance(logits(model), exact) > 0.01
    assert "quantization" not in (tmp_path / "out" / "config.json").read_text()
    written = load_model(str(tmp_path / "out"), dtype=dtype).model
    assert {weight.dtype for weight in written.parameters()} == {getattr(torch, dtype)}
    assert file.exists()


def test_files_beside_the_gguf_are_not_read(model, tmp_path) -> None:
    write_gguf(tmp_path / "a.gguf", model)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        (tmp_path / name).write_text(
            '{"chat_template": "no", "eos_token_id": 7, "model_type": "x"}'
        )
    (tmp_path / "tokenizer.json").write_text("nonsense")
    convert(tmp_path, tmp_path / "out")
    loaded = load_model(str(tmp_path / "out"))
    assert (loaded.tokenizer.chat_template, loaded.stop_ids) == (TEMPLATE, (256,))
    assert distance(logits(loaded.model), logits(model)) < 1e-5


def test_digits_stand_alone_before_text_is_split(plain, tmp_path) -> None:
    """As SmolLM2's own tokenizer; transformers alone would take the space to the digit."""
    convert(plain, tmp_path / "out")
    tokenizer = load_model(str(tmp_path / "out")).tokenizer
    assert tokenizer.tokenize("a  12\n\n3") == ["a", "ĠĠ", "1", "2", "ĊĊ", "3"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pre": "llama-bpe"}, r"splits text as 'llama-bpe'.*full-precision"),
        ({"architecture": "clip"}, r"cannot read .*architecture clip"),
        ({"extra": {"llama.rope.scaling.type": "yarn"}}, r"stretches its positions .*yarn"),
        ({"tensors": {"rope_freqs.weight": np.ones(8, np.float32)}}, r"perhaps rope_freqs\.weight"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(model, tmp_path, change, message) -> None:
    file = write_gguf(tmp_path / "odd.gguf", model, **change)
    with pytest.raises(InputError, match=message):
        convert(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.01, 0.5, 0.99])
def test_a_file_that_is_cut_off_is_named(plain, tmp_path, share) -> None:
    whole = plain.read_bytes()
    short = tmp_path / "short.gguf"
    short.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"short\.gguf (is cut off|is no GGUF|cannot be read)"):
        convert(short, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [short]


def test_a_missing_weight_is_named(model, plain, tmp_path) -> None:
    data = bytearray(plain.read_bytes())
    name = b"blk.1.ffn_down.weight"
    data[data.index(name) : data.index(name) + len(name)] = b"blk.1.ffn_nowt.weight"
    (tmp_path / "less.gguf").write_bytes(data)
    with pytest.raises(InputError, match=r"lacks model\.layers\.1\.mlp\.down_proj\.weight"):
        convert(tmp_path / "less.gguf", tmp_path / "out")


def test_sources_that_are_not_one_gguf_are_named(plain, tmp_path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        convert(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(InputError, match=r"holds no \.gguf"):
        convert(tmp_path, tmp_path / "out")
    (tmp_path / "a.gguf").write_text("I am text")
    with pytest.raises(InputError, match="is no GGUF"):
        convert(tmp_path, tmp_path / "out")
    (tmp_path / "b.gguf").write_bytes(plain.read_bytes())
    with pytest.raises(InputError, match=r"several GGUFs \(a\.gguf, b\.gguf\)"):
        convert(tmp_path, tmp_path / "out")
    with pytest.raises(InputError, match="no dtype"):
        convert(plain, tmp_path / "out", "float64")


def test_a_folder_with_something_in_it_is_left_alone(plain, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(InputError, match="not an empty folder"):
        convert(plain, tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    convert(plain, tmp_path / "empty")
    check_model_folder(str(tmp_path / "empty"))


def test_a_failure_on_the_way_leaves_nothing(plain, tmp_path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(convert_module, "_compare", full)
    with pytest.raises(OSError, match="No space"):
        convert(plain, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_too_small_is_named(plain, tmp_path, monkeypatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(InputError, match=r"out needs .* GB, of which 0\.0 are free"):
        convert(plain, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_another_model_in_the_folder_is_found_out(plain, tmp_path, monkeypatch) -> None:
    """Were the library to write other weights than it read, the comparison would say so."""
    read = convert_module._read

    def other(*arguments):
        tokenizer, model = read(*arguments)
        save = model.save_pretrained

        def save_changed(folder):
            save(folder)
            weights = folder / "model.safetensors"
            data = bytearray(weights.read_bytes())
            data[-4:] = np.float32(3.0).tobytes()
            weights.write_bytes(data)

        model.save_pretrained = save_changed
        return tokenizer, model

    monkeypatch.setattr(convert_module, "_read", other)
    with pytest.raises(InputError, match="does not survive the conversion: its logits differ"):
        convert(plain, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_the_missing_package_is_named(plain, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(gguf_file, "is_gguf_available", lambda: False)
    with pytest.raises(InputError, match=r"pip install 'seal-pipeline\[gguf\]'"):
        convert(plain, tmp_path / "out")


def test_a_gguf_as_the_model_of_a_run_says_how_to_convert_it(plain) -> None:
    for path in (plain, plain.parent):
        with pytest.raises(InputError, match="seal model convert"):
            check_model_folder(str(path))


def test_as_typed(plain, tmp_path) -> None:
    seal = [sys.executable, "-c", "from flows.cli import main; main()", "model", "convert"]
    done = subprocess.run(
        [*seal, str(plain), "new model", "--dtype", "bfloat16"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        umask=0o027,
    )
    assert (done.returncode, done.stderr) == (0, "")
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "new model").iterdir()}
    assert modes == {0o640}
    assert "weights of plain.gguf in bfloat16, read back equal" in done.stdout
    done = subprocess.run(
        [*seal, str(plain), "new model"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "seal: new model: exists and is not an empty folder; choose another OUT"
    )


def test_a_wrong_argument_is_told_before_torch_is_imported(tmp_path) -> None:
    code = (
        "import sys\nfrom flows.cli import app\n"
        f"try: app(['model', 'convert', {str(tmp_path)!r}, 'out'], standalone_mode=False)\n"
        "except Exception as error: print(error, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().endswith("give the GGUF's own path False"), done.stderr
