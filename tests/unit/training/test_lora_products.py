"""The batched product of a GPU and the small products of a CPU are the same function."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn

from seal_core.models.lora_layers import Weights
from seal_core.training.layout import Layout
from seal_core.training.slots.lora_slots import LoraSlots
from seal_core.training.slots.rows_apart import norm_of
from seal_core.training.slots.slot_step import SlotStep
from seal_core.training.tick import RowDropout, Tick

LENGTHS, RANKS, SCALES = (5, 1, 9), (4, 2, 3), (2.0, 0.3, 1.0)
SLOTS = (2, 0, 3)


class Model(nn.Module):
    """One frozen layer, and one that a tick does not reach."""

    device = torch.device("cpu")

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 6).to(dtype).requires_grad_(False)
        self.other = nn.Linear(3, 5).to(dtype).requires_grad_(False)


def products(
    together: bool,
    dtype: torch.dtype,
    dropout: float = 0.0,
    passes: int = 1,
    device: str = "cpu",
):
    """Output, gradient of the input, and gradients of A and B, from equal numbers."""
    generator = torch.Generator().manual_seed(0)
    fine = torch.promote_types(dtype, torch.float32)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)

    model = Model(dtype).to(device)
    model.layer.weight.data.copy_(random(6, 8))
    model.layer.bias.data.copy_(random(6))
    base = model.layer
    slots = LoraSlots(model, ("layer", "other"), max(RANKS), 5, fine, together)
    adapters: list[Weights] = [
        {"layer": (random(r, 8), random(6, r)), "other": (random(r, 3), random(5, r))}
        for r in RANKS
    ]
    for slot, own in zip(SLOTS, adapters, strict=True):
        slots.write(slot, own)
    # What an earlier tick left, which must not show.
    slots._rows._gradients.fill_(float("nan"))
    x = random(sum(LENGTHS), 8).to(dtype).requires_grad_()
    tick = Tick(
        slots=SLOTS,
        lengths=LENGTHS,
        scales=SCALES,
        anchor=torch.zeros(1, device=device, requires_grad=True),
        dropout=tuple(RowDropout(dropout, n, 7 + n) for n in LENGTHS) if dropout else (),
        layout=Layout.build(LENGTHS, SCALES, x.device, fine) if together else None,
    )
    weight = random(sum(LENGTHS), 6).to(dtype)
    slots.begin(tick)
    y = sum(model.layer(x) for _ in range(passes))
    assert isinstance(y, torch.Tensor)
    (y * weight).sum().backward()
    slots.end()
    found = [slots.gradients(slot) for slot in SLOTS]
    assert all(not part.any() for own in found for part in own["other"])
    gradients = [part.clone() for own in found for part in own["layer"]]
    return [y.detach(), x.grad, *gradients], (x, base, adapters, weight), slots


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.03)]
)
def test_batched_and_one_by_one_agree(dtype, error, dropout, passes) -> None:
    one, _, _ = products(False, dtype, dropout, passes)
    many, _, _ = products(True, dtype, dropout, passes)
    for ours, theirs in zip(many, one, strict=True):
        assert ours.dtype == theirs.dtype
        assert (ours.double() - theirs.double()).norm() <= error * theirs.double().norm()


@pytest.mark.parametrize("together", [False, True])
def test_gradients_are_autograds(together) -> None:
    results, (x, base, adapters, weight), _ = products(together, torch.float64)
    free = x.detach().clone().requires_grad_()
    weights = [[part.clone().requires_grad_() for part in own["layer"]] for own in adapters]
    parts = [
        base(own) + scale * own @ a.t() @ b.t()
        for own, (a, b), scale in zip(free.split(LENGTHS), weights, SCALES, strict=True)
    ]
    (torch.cat(parts) * weight).sum().backward()
    expected = [torch.cat(parts).detach(), free.grad, *(w.grad for pair in weights for w in pair)]
    for ours, theirs in zip(results, expected, strict=True):
        assert theirs is not None and (ours - theirs).abs().max() <= 1e-12


CHOSEN = ((2, 0, 3), (2, 3), (3, 0, 2))
"""The adapters of three steps, of which one skips the second."""


def drawn_gradients(number: int, width: int) -> torch.Tensor:
    """Of all slots, for a step."""
    generator = torch.Generator().manual_seed(number)
    return torch.randn(5, width, generator=generator, dtype=torch.float64)


def steps(
    together: bool,
    clip: float,
    broken: int | None = None,
    decay: float = 0.0,
    scale: float = 1.0,
):
    """Weights, losses and norms after three steps."""
    _, _, slots = products(together, torch.float64)
    rows = slots._rows
    for slot in SLOTS:
        rows.place(slot, max(RANKS), decay)
    used = rows._bank != 0
    told = []
    for number, chosen in enumerate(CHOSEN):
        if together:
            rows.begin(chosen)
        drawn = drawn_gradients(number, rows._bank.shape[1])
        for slot in chosen:
            rows.gradient(slot).copy_(scale * drawn[slot] * used[slot])
            if slot == broken and number == 0:
                rows.gradient(slot)[0] = float("nan")
        losses = torch.tensor([float(slot) for slot in chosen], dtype=torch.float64)
        plan = [SlotStep(slot, 0.1 / (1 + slot), clip) for slot in chosen]
        told += slots.step(plan, losses).T.tolist()
    return {slot: slots._bank[slot].clone() for slot in SLOTS}, told


# The last one's gradients are within the bound by less than what PyTorch adds to the norm.
@pytest.mark.parametrize(("clip", "scale"), [(0.0, 1.0), (0.5, 1.0), (1e-6, 1e-8)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_steps_are_pytorchs(clip, scale, decay) -> None:
    one, told = steps(False, clip, decay=decay, scale=scale)
    other, said = steps(True, clip, decay=decay, scale=scale)
    expected = pytorchs_steps(clip, decay, scale)
    for slot in SLOTS:
        assert torch.allclose(one[slot], other[slot], rtol=0, atol=1e-13)
        assert torch.allclose(one[slot], expected[slot], rtol=0, atol=1e-12)
    assert torch.allclose(torch.tensor(told), torch.tensor(said))


def pytorchs_steps(clip: float, decay: float, scale: float) -> dict[int, torch.Tensor]:
    """The same steps by the library's own optimizer, one adapter after another."""
    bank = products(False, torch.float64)[2]._rows._bank
    rows = {slot: nn.Parameter(bank[slot].clone()) for slot in SLOTS}
    optimizers = {
        slot: torch.optim.AdamW([row], lr=0.1 / (1 + slot), weight_decay=decay, foreach=False)
        for slot, row in rows.items()
    }
    for number, chosen in enumerate(CHOSEN):
        drawn = drawn_gradients(number, bank.shape[1])
        for slot in chosen:
            rows[slot].grad = scale * drawn[slot] * (bank[slot] != 0)
            if clip:
                nn.utils.clip_grad_norm_([rows[slot]], clip)
            optimizers[slot].step()
    return {slot: row.detach() for slot, row in rows.items()}


def test_the_norm_of_a_large_adapter_is_exact() -> None:
    row = torch.randn(9_800_000, generator=torch.Generator().manual_seed(0))
    assert float(norm_of(row)) == pytest.approx(float(row.double().norm()), rel=2e-6)


@pytest.mark.parametrize("together", [False, True])
def test_a_broken_adapter_is_broken_alone(together) -> None:
    (sound, _), (broken, told) = steps(together, 0.5), steps(together, 0.5, broken=0)
    assert all(torch.equal(sound[slot], broken[slot]) for slot in (2, 3))
    assert [norm != norm for _, norm in told][:3] == [False, True, False]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.bfloat16, "tf32"), (torch.float16, "tf32"), (torch.float32, None)],
)
def test_a_half_precise_model_may_use_tensor_cores(dtype, expected, monkeypatch) -> None:
    matmul = torch.backends.cuda.matmul
    before, seen, plain = matmul.fp32_precision, [], torch.bmm

    def bmm(*operands: torch.Tensor) -> torch.Tensor:
        seen.append(matmul.fp32_precision)
        return plain(*operands)

    monkeypatch.setattr(torch, "bmm", bmm)
    base = nn.Linear.forward

    def forward(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        assert matmul.fp32_precision == before  # The model's own products are as they were.
        return base(layer, x)

    monkeypatch.setattr(nn.Linear, "forward", forward)
    products(True, dtype)
    assert set(seen) == {expected or before} and len(seen) == 4
    assert matmul.fp32_precision == before


class Odd(nn.Module):
    """A layer whose A and B leave gaps in a bank's row."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(5, 5).requires_grad_(False)


def run_tick(model: Odd, slots: LoraSlots, chosen: tuple[int, ...], x: torch.Tensor) -> Layout:
    """One pass and step over as many tokens of each adapter."""
    lengths = (len(x) // len(chosen),) * len(chosen)
    layout = Layout.build(lengths, (1.0,) * len(chosen), x.device)
    anchor = torch.zeros(1, requires_grad=True)
    slots.begin(Tick(chosen, lengths, (1.0,) * len(chosen), anchor, layout=layout))
    model.layer(model.layer(x)).square().sum().backward()
    slots.end()
    slots.step([SlotStep(slot, 0.1, 1.0) for slot in chosen], torch.ones(len(chosen)))
    return layout


def test_a_broken_adapter_leaves_nothing_for_the_next_in_its_place() -> None:
    model = Odd()
    slots = LoraSlots(model, ("layer",), 3, 2, torch.float32, together=True)
    for slot in range(2):
        slots.write(slot, {"layer": (torch.full((3, 5), 0.1), torch.full((5, 3), 0.1))})
    x = torch.ones(4, 5)
    x[0] = float("nan")
    run_tick(model, slots, (0, 1), x)
    run_tick(model, slots, (1,), torch.ones(2, 5))
    assert not slots._bank[0].isfinite().all() and slots._bank[1].isfinite().all()


def test_a_tick_leaves_no_memory() -> None:
    model = Odd()
    slots = LoraSlots(model, ("layer",), 3, 1, torch.float32, together=True)
    slots.write(0, {"layer": (torch.ones(3, 5), torch.ones(5, 3))})
    left = weakref.ref(run_tick(model, slots, (0,), torch.ones(2, 5)))
    gc.collect()
    assert left() is None
