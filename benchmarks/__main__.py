"""Run every benchmark in turn: `python -m benchmarks [NAME ...] [--quick]`.

Each is also a program of its own with more options; figures are ratios from interleaved repeats in
one process, so they hold on noisy machines where absolute times do not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
_SMALL = ["--size", "256", "--repeats", "3"]
_SHORT = ["--layers", "2", "--vocabulary", "4000", "--steps", "13", "--every", "4", "--rounds", "1"]
QUICK = {
    "cli": ["--quick"],
    "diff": ["--quick"],
    "async_loop": _SHORT,
    "averaging": ["--members", "4", "--size", "64", "--repeats", "2"],
    "catalog": ["--count", "200", "--repeats", "3", "--parameters", "20"],
    "decoding": ["--quick"],
    "distributed": ["--quick"],
    "ema_step": ["--parameters", "20", "--repeats", "5"],
    "exports": ["--quick"],
    "load_local": _SMALL,
    "monitoring": ["--quick"],
    "save_local": _SMALL,
    "small_tensors": ["--repeats", "3"],
}


def main() -> int:
    """Run the chosen benchmarks as whole processes; the exit status is the worst of theirs."""
    names = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *names], help=f"of: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="smaller sizes and fewer repeats")
    options = parser.parse_args()
    worst = 0
    for name in options.names or names:
        print(f"\n== {name}", flush=True)
        extra = QUICK.get(name, []) if options.quick else []
        command = [sys.executable, "-m", f"benchmarks.{name}", *extra]
        worst = max(worst, subprocess.run(command, cwd=HERE.parent, check=False).returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main())
