"""The cases of `./beside`, its rounds, and its table: see there for the options.

A round is a process of each contender, one after the other; the next one begins with another. What is told is the median of the rounds.
"""

import argparse
import math
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RUST, PYTHON = ("tenzor", "ndarray", "candle"), ("numpy", "numexpr", "torch")
MOST = 1.3
# How far values may be apart, in relation to what they are like.
APART = 1e-4


def cases(kib):
    """Each case: what it is called, what is computed, and the shapes of its inputs, of which the largest has so many KiB.

    The contenders know what to do by the second.
    """
    n = kib * 256
    side = math.isqrt(n)
    columns = min(side, 1024)
    rows = n // columns
    vector, matrix, square = f"{n}", f"{rows}x{columns}", f"{side}x{side}"
    row, column = f"{columns}", f"{rows}x1"
    # As of a batch's heads.
    heads = f"{side // 8}x8x{side // min(64, side // 8)}x{min(64, side // 8)}"

    yield "a·b + c − a/2", "a*b + c - a/2", [vector] * 3
    yield "eᵃ·e⁻ᵇ + 1/(1 + eᶜ)", "exp(a)*exp(-b) + 1/(1 + exp(c))", [vector] * 3
    yield "where(a < b, a, c)", "where(a < b, a, c)", [vector] * 3
    yield "stencil", "stencil", [square]
    for function in ("exp", "tanh", "sigmoid", "gelu", "silu", "x**2"):
        yield function, function, [vector]
    for function in ("ln", "x**1.5"):
        yield function, function, ["+" + vector]

    yield "a + row", "a + b", [matrix, row]
    yield "a + column", "a + b", [matrix, column]
    yield "a · exp(row)", "a * exp(b)", [matrix, row]
    yield "a · exp(column)", "a * exp(b)", [matrix, column]
    for inner in (4, 2):
        yield f"a + row, [n,{inner}]", "a + b", [f"{n // inner}x{inner}", f"{inner}"]
        yield f"a + column, [n,{inner}]", "a + b", [f"{n // inner}x{inner}", f"{n // inner}x1"]
    yield "outer sum", "a + b", [f"{side}x1", f"{side}"]
    yield "a + bᵀ", "a + b.T", [square] * 2

    yield "sum", "sum", [vector]
    yield "sum of aᵀ", "sum of a.T", [square]
    shapes = {"": square, ", tall": f"{n // 16}x16", ", wide": f"16x{n // 16}", ", [n,4]": f"{n // 4}x4"}
    for what, shape in (shapes | {", [n,2]": f"{n // 2}x2"}).items():
        for axis in (0, 1):
            yield f"sum {axis}{what}", f"sum {axis}", [shape]
    for axis in (0, 1):
        yield f"sum {axis} of aᵀ", f"sum {axis} of a.T", [square]
    yield "sum 1, [n,32,2]", "sum 1", [f"{n // 64}x32x2"]
    yield "mean 0 and 2, [n,16,n]", "mean 02", [f"{side // 4}x16x{side // 4}"]
    yield "max 1", "max 1", [matrix]

    yield "softmax, rows", "softmax rows", [matrix]
    yield "softmax, columns", "softmax columns", [matrix]
    yield "layer_norm", "layer_norm", [matrix]

    yield "copy of aᵀ", "copy of a.T", [square]
    yield "permute 0213", "permute 0213", [heads]
    yield "permute 021", "permute 021", [f"{side // 8}x{side // 8}x64"]
    yield "permute 102, [n,n,4]", "permute 102", [f"{side // 2}x{side // 2}x4"]

    yield "matmul", "matmul", [matrix, f"{columns}x{columns}"]
    yield "matmul, [n,64,64]", "matmul", [f"{n // 4096}x64x64"] * 2
    yield "matmul, a column", "matmul", [square, f"{side}x1"]
    yield "gelu(x@w + b)", "gelu(a@b + c)", [matrix, f"{columns}x{columns}", row]


def arguments():
    numbers = lambda text: [int(number) for number in text.split(",")]
    words = lambda text: text.split(",")
    parser = argparse.ArgumentParser("beside", description="Tenzor's expressions beside those of other libraries.")
    parser.add_argument("--rounds", type=int, metavar="N", help="5")
    parser.add_argument("--sizes", type=numbers, help="in KiB, powers of 4 from 16 on: 16,256,4096,65536")
    parser.add_argument("--milliseconds", type=float, help="how long a sample runs at least: 20")
    parser.add_argument("--threads", type=numbers, default=[1, 2], help="1,2")
    parser.add_argument("--cases", type=re.compile, default=re.compile(""), metavar="REGEX", help="of labels: all")
    parser.add_argument("--without", type=words, default=[], help="contenders to be left out, as torch,candle")
    parser.add_argument("--warm", action="store_true", help="Tenzor's pool and Python's malloc keep what is freed")
    parser.add_argument("--quick", action="store_true", help="whether it works: one short round of two sizes")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.sizes = options.sizes or ([16, 1024] if options.quick else [16, 256, 4096, 65536])
    options.milliseconds = options.milliseconds or (1 if options.quick else 20)
    for kib in options.sizes:
        if kib < 16 or math.isqrt(kib) ** 2 != kib or kib & (kib - 1):
            parser.error(f"{kib} KiB: no power of 4 from 16 on")
    return options


def environment(threads, warm):
    """What the libraries look at for how many threads they use."""
    names = ["RAYON", "OMP", "MKL", "OPENBLAS", "NUMEXPR", "NUMEXPR_MAX", "MATMUL"]
    settings = {f"{name}_{'' if name == 'NUMEXPR_MAX' else 'NUM_'}THREADS": str(threads) for name in names}
    if warm:
        # glibc's malloc then takes nothing from `mmap`, and keeps all it ever had.
        settings |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
    return os.environ | settings


def answers(command, lines, env):
    """A contender's times by case, and what its values are like."""
    done = subprocess.run(command, input="".join(lines), env=env, stdout=subprocess.PIPE, text=True, check=True)
    for line in done.stdout.splitlines():
        label, kib, nanoseconds, *value = line.split("\t")
        yield (label, int(kib)), float(nanoseconds), [float(number) for text in value for number in text.split()]


def difference(theirs, ours):
    """What is not the same about two values but for rounding: they have as many elements, and a mean, a size and elements near each other."""
    size = max(theirs[2], ours[2])
    what = ["elements", "mean", "size", *(f"element {i} of {len(ours) - 4}" for i in range(len(ours) - 3))]
    for name, left, right in zip(what, theirs, ours):
        # As `not`, for NaN.
        if not (left == right if name == "elements" else abs(left - right) <= APART * (size + abs(right))):
            return f"{name}: {left:g}, not {right:g}"
    return None


def mean(ratios):
    return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else math.nan


def duration(nanoseconds):
    for unit, size in (("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.{1 if nanoseconds >= 10 * size else 2}f} {unit}"
    return f"{nanoseconds:.0f} ns"


def measured(options, contenders, threads):
    """The median nanoseconds of each contender by case, and who does not agree with Tenzor."""
    by_label = zip(*map(cases, options.sizes))
    wanted = [(kib, *case) for row in by_label for kib, case in zip(options.sizes, row) if options.cases.search(case[0])]
    lines = ["\t".join([label, operation, str(kib), *shapes]) + "\n" for kib, label, operation, shapes in wanted]
    times = {(label, kib): {name: [] for name in contenders} for kib, label, *_ in wanted}
    values = {}
    for turn in range(options.rounds):
        first = turn % len(contenders)
        for name in [*contenders[first:], *contenders[:first]]:
            print(f"threads {threads}, round {turn + 1} of {options.rounds}: {name}", file=sys.stderr)
            command = [os.environ["EXPRESSIONS"], "beside"] if name in RUST else [sys.executable, HERE / "peers.py"]
            command += [name, str(threads), str(options.milliseconds)] + ["--values"] * (turn == 0) + ["--warm"] * options.warm
            env = environment(threads, options.warm)
            for case, nanoseconds, value in answers(command, lines, env):
                times[case][name].append(nanoseconds)
                if value:
                    values[case, name] = value
    apart = [
        f"{label}, {kib} KiB, {threads} threads, {name}: {what}"
        for ((label, kib), name), value in values.items()
        if (what := difference(value, values[(label, kib), "tenzor"]))
    ]
    medians = {
        case: {name: statistics.median(taken) for name, taken in by.items() if taken} for case, by in times.items()
    }
    return medians, apart


def table(medians, contenders, threads):
    """Prints a row a case, and returns those above what is allowed."""
    peers = contenders[1:]
    print(f"\n| threads: {threads} | KiB | tenzor | {' | '.join(peers)} | best peer |")
    print("|---" * (len(peers) + 4) + "|")
    ratios, above = {name: [] for name in [*peers, "best"]}, []
    for (label, kib), by in medians.items():
        ours = by["tenzor"]
        row = {name: ours / by[name] for name in peers if name in by}
        if row:
            best = max(row, key=row.get)
            row["best"] = row[best]
        for name, ratio in row.items():
            ratios[name].append(ratio)
        cells = [f"{row[name]:.2f}" if name in row else "–" for name in ratios]
        if row.get("best", 0) > MOST:
            cells[-1] = f"**{cells[-1]}**"
            above.append((row["best"], label, kib, best))
        print(f"| {label} | {kib} | {duration(ours)} | {' | '.join(cells)} |")
    print(f"| geometric mean | | | {' | '.join(f'{mean(of):.2f}' for of in ratios.values())} |")
    return above, mean(ratios["best"]), len(ratios["best"])


def main():
    options = arguments()
    there = os.environ["CONTENDERS"].split()
    contenders = [name for name in (*RUST, *PYTHON) if name in there and name not in options.without]
    print("Tenzor's time, and its ratio to each peer's: below 1, Tenzor is faster. The best peer's is the largest.")
    results, disagreements = [], []
    for threads in options.threads:
        medians, apart = measured(options, contenders, threads)
        results.append((threads, *table(medians, contenders, threads)))
        disagreements += apart
    print()
    for threads, above, geometric, rows in results:
        print(f"threads {threads}: {geometric:.2f} of the best peer in the geometric mean of {rows} rows, ", end="")
        print(f"{len(above)} above {MOST}{':' if above else '.'}")
        for ratio, label, kib, peer in sorted(above, reverse=True):
            print(f"    {ratio:.2f} of {peer}: {label}, {kib} KiB")
    for line in disagreements:
        print(f"not the same value: {line}")
    sys.exit(1 if disagreements else 0)


main()
