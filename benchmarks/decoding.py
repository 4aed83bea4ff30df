"""Exported decoding beside eager decoding: the same tokens, and how much sooner.

The demo's model is trained for a short while on its embedded corpus (or `--data`), exported as
ONNX and by torch.export, and 200 test sentences are translated by every way of decoding in turn, so
that all see the same noise of the machine. Limits: the tokens of every exported way equal those of
eager mode, and ONNX with cached keys takes at most half the time of eager decoding without them.

Run `python -m benchmarks.decoding [--steps 400] [--threads 2] [--repeats 5] [--json FILE]`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from holdfast.decoding import LengthRule
from holdfast.decoding.tensors import TensorSteps
from holdfast.demo.batches import BucketedBatches
from holdfast.demo.corpus import Corpus, Direction
from holdfast.demo.dataset import EncodedPairs, Vocabularies, collate
from holdfast.demo.decode import MARKS
from holdfast.demo.model import ModelConfig, TranslationTransformer
from holdfast.demo.sources import open_corpus
from holdfast.demo.steps import CachedSteps, WholeSteps
from holdfast.demo.vocab import EOS, PAD
from holdfast.export.building import build
from holdfast.export.seq2seq import SequenceModel, load_onnx
from holdfast.export.seq2seq.graphs import sequence_graphs
from holdfast.export.seq2seq.program import load_program
from holdfast.export.target import Exportable

SENTENCES = 200
FASTER_MIN = 2.0
BASELINE, LIMITED = "eager, no cache", "ONNX, cache"
Decode = Callable[[int], list[list[int]]]


def train(corpus: Corpus, words: Vocabularies, steps: int) -> TranslationTransformer:
    """The demo's model after so many steps of the demo's training."""
    torch.manual_seed(0)
    pairs = EncodedPairs(corpus.train, words)
    model = TranslationTransformer(ModelConfig(len(words.source), len(words.target)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.98), fused=True)
    batches = BucketedBatches(pairs.lengths, tokens_per_batch=1000, seed=0)
    epochs = itertools.chain.from_iterable(_epochs(batches))
    began = time.monotonic()
    for step, numbers in enumerate(itertools.islice(epochs, steps)):
        batch = collate([pairs[number] for number in numbers])
        logits = model(batch.source, batch.target_in)
        wanted = batch.target_out.flatten()
        loss = cross_entropy(logits.flatten(0, 1), wanted, ignore_index=PAD)
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1.0, (step + 1) / 150)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    print(f"trained {steps} steps in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return model.eval()


def _epochs(batches: BucketedBatches) -> Iterator[Iterator[list[int]]]:
    for epoch in itertools.count():
        batches.set_epoch(epoch)
        yield iter(batches)


def ways_to_decode(
    model: TranslationTransformer, sources: Sequence[Sequence[int]], folder: Path, threads: int
) -> dict[str, Decode]:
    """Every way of decoding the sources, by name; each takes the width of the beam."""
    config = model.config
    made: dict[str, SequenceModel] = {}
    for name, module in (("cached", CachedSteps(model)), ("whole", WholeSteps(model))):
        graphs = sequence_graphs(
            module.eval(),
            name=name,
            source_size=config.source_vocabulary,
            source_max=config.positions_max,
            marks=MARKS,
            pad=PAD,
            lengths=LengthRule(config.positions_max),
        )
        graphs.recipe.write(folder, name)
        built, _ = build(Exportable(module, graphs.graphs), folder, ("onnx", "program"))
        for report in built.reports:
            print(report, file=sys.stderr)
        if built.refusals:
            raise SystemExit(str(built.refusals[0]))
        label = "cache" if name == "cached" else "no cache"
        made[f"eager, {label}"] = SequenceModel(TensorSteps(module), graphs.recipe)
        made[f"program, {label}"] = load_program(folder, name)
        made[f"ONNX, {label}"] = load_onnx(folder, name, threads=threads)

    def decode(one: SequenceModel) -> Decode:
        return lambda width: [found.tokens for found in one.decode(sources, width=width)]

    return {name: decode(one) for name, one in made.items()}


def measure(ways: dict[str, Decode], width: int, repeats: int) -> dict[str, dict[str, Any]]:
    """Seconds of each way and its speed beside the baseline, run in turn; are tokens the same?"""
    expected = ways[BASELINE](width)
    different = {
        name: sum(a != b for a, b in zip(way(width), expected, strict=True))
        for name, way in ways.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way(width)
            seconds[name].append(time.perf_counter() - began)
    result = {}
    for name, times in seconds.items():
        ratios = [base / own for base, own in zip(seconds[BASELINE], times, strict=True)]
        result[name] = {
            "seconds": statistics.median(times),
            "faster": statistics.median(ratios),
            "faster_min": min(ratios),
            "faster_max": max(ratios),
            "different": different[name],
        }
    return result


def show(title: str, rows: dict[str, dict[str, Any]]) -> None:
    """A table of one search."""
    print(f"{title}; speed beside '{BASELINE}' as median (worst to best) of the repeats")
    for name, row in rows.items():
        print(
            f"  {name:18} {row['seconds']:7.2f} s   {row['faster']:5.2f}x "
            f"({row['faster_min']:.2f} to {row['faster_max']:.2f})   "
            f"{row['different']} of {SENTENCES} sentences with other tokens"
        )


def main() -> int:
    """Train, export, translate; print tables and whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", help="as `holdfast demo --data`; the embedded corpus by default")
    parser.add_argument("--steps", type=int, default=400, help="of training")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="150 steps, 3 repeats")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.steps, options.repeats = 150, 3
    torch.set_num_threads(options.threads)
    corpus = open_corpus(options.data, Direction.parse("de-en"), seed=0)
    words = Vocabularies.build(corpus)
    model = train(corpus, words, options.steps)
    sources = [[*words.source.encode(p.source), EOS] for p in corpus.test[:SENTENCES]]
    with tempfile.TemporaryDirectory() as folder:
        ways = ways_to_decode(model, sources, Path(folder), options.threads)
        greedy = measure(ways, 1, options.repeats)
        cached = {name: way for name, way in ways.items() if "no cache" not in name}
        beam = measure({BASELINE: ways[BASELINE], **cached}, 4, max(2, options.repeats // 2))
    print(
        f"{len(sources)} sentences, {options.threads} threads, vocabularies of "
        f"{len(words.source)} and {len(words.target)}, python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )
    show("greedy", greedy)
    show("beam of 4", beam)
    same = not any(row["different"] for rows in (greedy, beam) for row in rows.values())
    fast = greedy[LIMITED]["faster"] >= FASTER_MIN
    print(f"{'PASS' if same else 'MISSED'}  tokens identical to eager in every way of decoding")
    print(
        f"{'PASS' if fast else 'MISSED'}  {LIMITED}: {greedy[LIMITED]['faster']:.1f}x the speed of "
        f"{BASELINE}, greedy (limit {FASTER_MIN:.0f}x)"
    )
    if options.json:
        options.json.write_text(json.dumps({"greedy": greedy, "beam": beam}, indent=2) + "\n")
    return 0 if same and fast else 1


if __name__ == "__main__":
    sys.exit(main())
