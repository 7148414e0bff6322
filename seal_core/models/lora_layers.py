"""Knows a model's linear layers: which a LoRA targets, how it starts, how it is merged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from seal_core.errors import EngineError, InputError
from seal_core.fingerprint import derive_seed
from seal_core.models.barred import barred_layers, other_towers
from seal_core.models.files.adapter_files import LoraPair, adapter_stamp, read_adapter
from seal_core.models.linear import is_linear, matrix, shape

ALL_LINEAR = "all-linear"
_ROWS = 64

Weights = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""`(A [rank, in], B [out, rank])` by full module name."""


class LinearLayers:
    """The linear layers that a text meets in a model that was not wrapped yet, by full name.

    Args:
        model: A causal language model of the transformers library.
    """

    def __init__(self, model: Any) -> None:
        embedding = model.get_input_embeddings().weight
        self._head = model.get_output_embeddings()
        self._layers = {
            name: module
            for name, module in model.named_modules()
            # A head that shares the embedding's weights cannot take a delta of its own.
            if is_linear(module) and module.weight is not embedding
        }
        for name in other_towers(model, self._layers):
            del self._layers[name]
        self._barred = barred_layers(model, self._layers)
        self._others = [name for name, _ in model.named_modules() if name not in self._layers]
        self._originals: dict[str, nn.Parameter] = {}
        self._merged: tuple[object, ...] = ()

    def resolve(self, targets: Sequence[str]) -> list[str]:
        """Sorted full names that any of the targets selects, each as PEFT selects it.

        Raises:
            InputError: A target selects nothing.
        """
        return sorted({name for target in targets for name in self._selected(target)})

    def _selected(self, target: str) -> list[str]:
        if target == ALL_LINEAR:
            chosen = (n for n, layer in self._layers.items() if layer is not self._head)
            names = [name for name in chosen if name not in self._barred]
            if not names:
                raise InputError("this model has no linear layer that LoRA could target")
            return names
        names = [name for name in self._layers if _selects(target, name)]
        if not names:
            usual = {n.rpartition(".")[2] for n in self._layers if n not in self._barred}
            raise InputError(
                f"target {target!r} (of finetune.targets or update.targets) names no linear layer "
                f"of this model with weights of its own: it has {', '.join(sorted(usual))}, or use "
                f"{ALL_LINEAR!r}"
            )
        for name in names:
            if name in self._barred:
                raise InputError(
                    f"{name} cannot be a target: {self._barred[name]}; leave it out, or name "
                    "layers one by one"
                )
        return names

    def short_names(self, modules: Sequence[str]) -> list[str]:
        """Last parts of the names if these select the same modules, else the full names.

        vLLM and readers know modules by their last part.
        """
        short = sorted({name.rpartition(".")[2] for name in modules})
        others = (*(set(self._layers) - set(modules)), *self._others)
        clash = any(_selects(target, name) for target in short for name in others)
        return sorted(modules) if clash else short

    def shape(self, name: str) -> tuple[int, int]:
        """Inputs and outputs of a layer."""
        return shape(self._layers[name])

    def norm(self, name: str) -> float:
        """About the Frobenius norm of a layer's weights, from some of its rows."""
        weight = matrix(self._layers[name])
        rows = weight[:: max(1, weight.shape[0] // _ROWS)].float()
        return float(rows.square().mean() * weight.numel()) ** 0.5

    def initial_weights(self, modules: Sequence[str], rank: int, seed: int) -> Weights:
        """PEFT's start, A uniform as `nn.Linear` and B zero, from the seed alone.

        A comes from one stream of random numbers in the order of the names (He et al. 2015,
        arXiv 1502.01852, with a = sqrt 5).
        """
        generator = torch.Generator().manual_seed(derive_seed("lora-init", seed))
        weights = {}
        for name in sorted(modules):
            n_in, n_out = self.shape(name)
            a = torch.empty(rank, n_in)
            nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=generator)
            weights[name] = (a, torch.zeros(n_out, rank))
        return weights

    def weights_of(self, path: str, modules: Sequence[str], rank: int, scale: float) -> Weights:
        """An adapter's weights to go on training from, rescaled to `scale`.

        Raises:
            InputError: It cannot be read, or its rank or targets are not the job's.
        """
        pairs = read_adapter(path)
        if sorted(pairs) != sorted(modules):
            raise InputError(f"adapter {path} has other targets than the job: use the same")
        weights = {}
        for name, pair in pairs.items():
            self._check(path, name, pair)
            if pair.a.shape[0] != rank:
                raise InputError(f"adapter {path} has rank {pair.a.shape[0]}, the job {rank}")
            weights[name] = (pair.a, pair.b * (pair.scale / scale))
        return weights

    def merge(self, paths: Sequence[str]) -> None:
        """Gives the layers weights that are the base's plus these adapters' deltas.

        The base's own weights stay as they are, for others that use them. The last merge is
        kept: nothing happens when the same stack is asked for again.

        Raises:
            InputError: An adapter cannot be read or does not fit; the base is whole then.
            EngineError: The device has no memory for the layers' own weights.
        """
        key = tuple((path, adapter_stamp(path)) for path in paths)
        if key == self._merged:
            return
        self._restore()
        stack = [(path, read_adapter(path)) for path in paths]
        for path, pairs in stack:
            for name, pair in pairs.items():
                self._check(path, name, pair)
        try:
            for _, pairs in stack:
                for name, pair in pairs.items():
                    self._add(name, pair)
        except BaseException as error:
            self._restore()
            if isinstance(error, torch.OutOfMemoryError):
                raise EngineError(
                    "the policy's merged layers do not fit the device beside the model: target "
                    "fewer layers, or leave training more memory"
                ) from error
            raise
        self._merged = key

    def _restore(self) -> None:
        for name, original in self._originals.items():
            self._layers[name].weight = original
        self._originals, self._merged = {}, ()

    def _add(self, name: str, pair: LoraPair) -> None:
        layer = self._layers[name]
        if name not in self._originals:
            self._originals[name] = layer.weight
            layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=False)
        weight = matrix(layer).data
        # Computed finely and rounded once, to the model's own precision.
        precise = torch.promote_types(weight.dtype, torch.float32)
        a, b = pair.a.to(weight.device, precise), pair.b.to(weight.device, precise)
        weight.copy_(weight.to(precise) + pair.scale * (b @ a))

    def _check(self, path: str, name: str, pair: LoraPair) -> None:
        if name not in self._layers:
            raise InputError(f"adapter {path} targets {name}, no linear layer of this model")
        if (pair.a.shape[1], pair.b.shape[0]) != self.shape(name):
            raise InputError(f"adapter {path} does not fit {name}: made for another model")


def is_finite(weights: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> bool:
    """Whether no weight is NaN or infinite."""
    return all(bool(t.isfinite().all()) for pair in weights.values() for t in pair)


def _selects(target: str, name: str) -> bool:
    return name == target or name.endswith(f".{target}")
