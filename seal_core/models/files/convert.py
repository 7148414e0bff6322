"""Makes a Hugging Face folder of a GGUF, reads it back and holds it against what was read."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from seal_core.errors import InputError, StageError
from seal_core.models.files.gguf_file import (
    SPLIT_AT_DIGITS,
    USE_ORIGINAL,
    GgufFile,
    check_read,
    open_gguf,
)
from seal_core.models.files.gguf_place import check_conversion
from seal_core.models.loading import load_model

TEXTS = (
    "The Amazon rainforest covers 5,500,000 km² in nine nations.\n\n1. In 1996 it   was larger.",
    "Élan, naïve, 東京 и Москва: 'quoted', don't \t<|im_end|>\n  - 42%",
    " leading space",
)
"""Texts whose tokens must be the same after the round trip."""


def convert(source: Path, out: Path, dtype: str = "float32") -> GgufFile:
    """Writes a GGUF's weights, tokenizer and chat template as a Hugging Face folder.

    The folder appears whole or not at all.

    Args:
        source: GGUF file, or a folder that holds one.
        out: New or empty folder.
        dtype: Of the written weights: `float32` holds a GGUF's numbers exactly, `bfloat16` and
            `float16` take half the space.

    Raises:
        InputError: The GGUF or `out` is none that can be used, or the result is not the same
            model.
        StageError: The weights could not be written.
    """
    file = open_gguf(check_conversion(source, out, dtype))
    out.parent.mkdir(parents=True, exist_ok=True)
    _check_space(file, out, getattr(torch, dtype))
    tokenizer, model = _read(file, getattr(torch, dtype))
    with TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        folder = Path(scratch) / out.name
        folder.mkdir()
        try:
            model.save_pretrained(folder)
        except SafetensorError as error:
            raise StageError(f"cannot write the weights to {out}: {error}") from error
        tokenizer.save_pretrained(folder)
        expected = _logits(model, tokenizer)
        del model
        gc.collect()
        for weights in folder.glob("*.safetensors"):
            # safetensors writes them for the user alone, whatever the umask.
            shutil.copymode(folder / "config.json", weights)
        _compare(folder, tokenizer, expected, file, dtype)
        os.replace(folder, out)
    return file


def _check_space(file: GgufFile, out: Path, dtype: torch.dtype) -> None:
    needed, free = file.n_weights * dtype.itemsize, shutil.disk_usage(out.parent).free
    if free < needed:
        raise InputError(
            f"{out} needs {needed / 1e9:.1f} GB, of which {free / 1e9:.1f} are free: free some "
            "space, or choose another OUT or --dtype bfloat16"
        )


def _read(file: GgufFile, dtype: torch.dtype) -> tuple[Any, Any]:
    """Tokenizer and model as transformers reads them, nothing of it quantized."""
    try:
        # Alone in a folder: the library would also read a config or tokenizer beside the file.
        with TemporaryDirectory() as folder:
            Path(folder, "model.gguf").symlink_to(file.path.absolute())
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf")
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                gguf_file="model.gguf",
                dtype=dtype,
                quantization_config=GgufConfig(dequantize=True),
                output_loading_info=True,
            )
        model, info = loaded
    except (ValueError, LookupError, RuntimeError, TypeError, AttributeError, OSError) as error:
        raise InputError(
            f"transformers cannot read {file.path} (architecture {file.architecture}): {error}"
        ) from error
    if info["missing_keys"]:
        missing = ", ".join(sorted(info["missing_keys"])[:3])
        raise InputError(f"{file.path} lacks {missing}: the GGUF is incomplete")
    check_read(file, model)
    _mend_tokenizer(tokenizer, file)
    model.eval().requires_grad_(False)
    return tokenizer, model


def _mend_tokenizer(tokenizer: Any, file: GgufFile) -> None:
    """Splits as the model's own tokenizer, which transformers does not take from a GGUF."""
    backend, split = tokenizer.backend_tokenizer, file.metadata.get("tokenizer.ggml.pre")
    if split in SPLIT_AT_DIGITS:
        backend.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )
    elif split in ("qwen2", "deepseek-r1-qwen"):
        backend.normalizer = normalizers.NFC()
    bos = file.metadata.get("tokenizer.ggml.bos_token_id")
    # llama.cpp's own default, where the file does not say.
    wanted = file.metadata.get(
        "tokenizer.ggml.add_bos_token", file.metadata["tokenizer.ggml.model"] == "llama"
    )
    if bos is not None and wanted != (tokenizer("a")["input_ids"][0] == bos):
        tokenizer.add_bos_token = wanted
    end = file.metadata.get("tokenizer.ggml.eos_token_id")
    if tokenizer.eos_token_id != end:
        raise InputError(
            f"{file.path} ends texts with token {end}, but transformers reads "
            f"{tokenizer.eos_token_id}: {USE_ORIGINAL}"
        )


@torch.inference_mode()
def _logits(model: Any, tokenizer: Any) -> torch.Tensor:
    ids = tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]
    return model(ids).logits[0].float()


def _compare(
    folder: Path, tokenizer: Any, expected: torch.Tensor, file: GgufFile, dtype: str
) -> None:
    """Loads the folder as a run would, and holds it against the model as it was read.

    Raises:
        InputError: It is not the same.
    """
    again = load_model(str(folder), device="cpu", dtype=dtype)
    faults = []
    if getattr(again.model, "is_quantized", False):
        faults.append("its weights are still quantized")
    found = _logits(again.model, again.tokenizer)
    if found.shape != expected.shape or not expected.isfinite().all():
        faults.append("its logits are not finite or of another shape")
    elif (found - expected).norm() > 1e-5 * expected.norm():
        faults.append("its logits differ from those of the GGUF")
    for text in TEXTS:
        if again.tokenizer(text)["input_ids"] != tokenizer(text)["input_ids"]:
            faults.append(f"its tokenizer reads {text!r} differently")
    if again.tokenizer.chat_template != tokenizer.chat_template:
        faults.append("its chat template differs")
    if again.eos_id != tokenizer.eos_token_id:
        faults.append("its end token differs")
    if faults:
        raise InputError(f"{file.path} does not survive the conversion: {'; '.join(faults)}")
