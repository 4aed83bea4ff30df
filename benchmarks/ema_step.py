"""One update of an average of a model, beside the least memory traffic it could take.

    python -m benchmarks.ema_step [--parameters MILLIONS] [--repeats N] [--threads N] [--json FILE]

The model has the tensor shapes of a Transformer. Every repeat runs every way once, in an order that
rotates, so that a busy machine slows all alike; figures are medians of the ratios to the first
way of the same repeat, a triad over two flat tensors of the same bytes: read two, write one.
ema-pytorch and diffusers take part where they are installed. What timm's two classes do to each
tensor is written out here (timm needs torchvision), and so is diffusers' arithmetic.

Limits: 1.15 times the triad, and a third of the original loop.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.optim import swa_utils

from holdfast import EMAModel, PowerFunction

DECAY = 0.9999
Way = Callable[[], object]


def transformer(parameters: int) -> nn.Module:
    """An embedding and as many layers of width 512 as make up the number of parameters."""
    layer = nn.TransformerEncoderLayer(512, 8, 2048)
    size = sum(p.numel() for p in layer.parameters())
    words = 16_000
    count = max(1, (parameters - words * 512) // size)
    return nn.ModuleList([nn.Embedding(words, 512), *(copy.deepcopy(layer) for _ in range(count))])


@torch.no_grad()
def original_loop(model: nn.Module) -> Way:
    """The loop of the original class: a new tensor for each product, sum and copy."""
    shadow = {name: p.detach().clone() for name, p in model.named_parameters()}

    def way() -> None:
        for name, p in model.named_parameters():
            average = (1.0 - DECAY) * p.data + DECAY * shadow[name]
            shadow[name] = average.clone()

    return way


def subtracting_loop(model: nn.Module) -> Way:
    """Tensor by tensor, the average less a share of its distance, as diffusers does it."""
    shadow = [p.detach().clone() for p in model.parameters()]

    @torch.no_grad()
    def way() -> None:
        for average, p in zip(shadow, model.parameters(), strict=True):
            average.sub_((1.0 - DECAY) * (average - p))

    return way


def timm_v2(model: nn.Module) -> Way:
    """timm's ModelEmaV2: every entry of the state dict, by a new tensor for each."""
    shadow = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def way() -> None:
        for average, value in zip(shadow.values(), model.state_dict().values(), strict=True):
            average.copy_(DECAY * average + (1.0 - DECAY) * value)

    return way


def timm_v3(model: nn.Module) -> Way:
    """timm's ModelEmaV3 as it is by default: batched, over the state dict, looked up each time."""
    shadow = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def way() -> None:
        weights = list(model.state_dict().values())
        torch._foreach_lerp_(list(shadow.values()), weights, weight=1.0 - DECAY)

    return way


def averaged_model(model: nn.Module, *, batched: bool) -> Way:
    """torch.optim.swa_utils.AveragedModel with its EMA functions."""
    if batched:
        function = swa_utils.get_ema_multi_avg_fn(DECAY)  # type: ignore[no-untyped-call]
        averaged = swa_utils.AveragedModel(model, multi_avg_fn=function)
    else:
        function = swa_utils.get_ema_avg_fn(DECAY)  # type: ignore[no-untyped-call]
        averaged = swa_utils.AveragedModel(model, avg_fn=function)
    averaged.update_parameters(model)
    return lambda: averaged.update_parameters(model)


def installed(model: nn.Module) -> dict[str, Way]:
    """The peers that are installed here."""
    ways: dict[str, Way] = {}
    try:
        training = importlib.import_module("diffusers.training_utils")
        theirs = training.EMAModel(model.parameters(), decay=DECAY)
        theirs.optimization_step = 10_000_000  # past its warm-up
        ways["diffusers"] = lambda: theirs.step(model.parameters())
    except ImportError:
        print("diffusers is not installed: left out")
    try:
        module = importlib.import_module("ema_pytorch")
        average = module.EMA(model, beta=DECAY, update_every=1, update_after_step=0)
        ways["ema-pytorch"] = average.update
    except ImportError:
        print("ema-pytorch is not installed: left out")
    return ways


def ways_of(model: nn.Module) -> dict[str, Way]:
    """Every way by name, the triad first."""
    count = sum(p.numel() for p in model.parameters())
    left, right = torch.ones(count), torch.ones(count)
    several = [PowerFunction(0.05), PowerFunction(0.10)]
    half = copy.deepcopy(model).bfloat16()
    averages = {
        "holdfast": EMAModel(model, DECAY),
        "holdfast, two averages": EMAModel(model, several),
        "holdfast, two averages and segment means": EMAModel(model, several, segment_means=True),
        "holdfast, bf16 model": EMAModel(half, DECAY),
    }
    ways: dict[str, Way] = {"triad": lambda: left.add_(right, alpha=1e-4)}
    for name, ema in averages.items():
        ways[name] = ema.update
    ways |= {
        "original loop": original_loop(model),
        "subtracting loop (diffusers)": subtracting_loop(model),
        "timm V2 (its arithmetic)": timm_v2(model),
        "timm V3 (its arithmetic)": timm_v3(model),
        "AveragedModel, one by one": averaged_model(model, batched=False),
        "AveragedModel, batched": averaged_model(model, batched=True),
    }
    for method in ("pointer", "copy"):
        swapping = EMAModel(model, DECAY, swap=method)
        swapping.update()
        ways[f"swap in and out by {method}"] = lambda ema=swapping: swap(ema)  # type: ignore[misc]
    return ways | installed(model)


def swap(ema: EMAModel) -> None:
    """Put the average in and the weights back."""
    with ema.applied():
        pass


def measure(ways: dict[str, Way], repeats: int) -> dict[str, list[float]]:
    """Seconds of each way in each repeat, after one round of warming up."""
    names = list(ways)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(-1, repeats):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            began = time.perf_counter()
            ways[name]()
            if repeat >= 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def main() -> int:
    """Measure and print a table; write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--parameters", type=float, default=58.0, help="millions")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=0, help="0 leaves torch's own choice")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = transformer(int(options.parameters * 1e6))
    count = sum(p.numel() for p in model.parameters())
    print(f"{count / 1e6:.1f} M parameters, {torch.get_num_threads()} threads")
    seconds = measure(ways_of(model), options.repeats)
    rows = {}
    for name, times in seconds.items():
        ratios = [t / triad for t, triad in zip(times, seconds["triad"], strict=True)]
        rows[name] = {
            "milliseconds": 1e3 * statistics.median(times),
            "ratio": statistics.median(ratios),
            "ratio_of_minima": min(times) / min(seconds["triad"]),
        }
    print(f"{'way':<44}{'ms':>10}{'x triad':>10}{'best/best':>11}")
    for name, row in rows.items():
        print(
            f"{name:<44}{row['milliseconds']:10.1f}{row['ratio']:10.2f}{row['ratio_of_minima']:11.2f}"
        )
    missed = verdicts(rows)
    if options.json:
        options.json.write_text(json.dumps({"parameters": count, "ways": rows}, indent=2) + "\n")
    return missed


def verdicts(rows: dict[str, dict[str, float]]) -> int:
    """Print a line for each limit; 1 if any is missed."""
    ours = rows["holdfast"]
    speedup = rows["original loop"]["ratio"] / ours["ratio"]
    limits = [
        ("at most 1.15 x the triad", ours["ratio"] <= 1.15, f"{ours['ratio']:.2f} x"),
        ("at least 3 x faster than the original loop", speedup >= 3, f"{speedup:.1f} x"),
    ]
    for what, good, found in limits:
        print(f"{'PASS' if good else 'MISSED'}  {what}: {found}")
    return int(not all(good for _, good, _ in limits))


if __name__ == "__main__":
    sys.exit(main())
