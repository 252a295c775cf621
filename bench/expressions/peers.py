"""The Python contenders of `./beside`: NumPy, numexpr and PyTorch, each as its users would write a case, and at its best setting.

    peers.py numpy|numexpr|torch THREADS MILLISECONDS [--values] [--warm]

Cases come and are answered as src/beside/mod.rs says. The inputs are the same to the last bit.
`--warm` is for others: here, the environment says it.
"""

import contextlib
import math
import sys
import time

import numpy as np

SAMPLES = 3


def inputs(shapes):
    """As `values` in src/beside/mod.rs: `float32`, and so must be what is made of them."""
    for seed, shape in enumerate(shapes):
        sizes = [int(size) for size in shape.lstrip("+").split("x")]
        bits = np.arange(math.prod(sizes), dtype=np.uint32)
        bits += np.uint32(seed * 1_000_003)
        bits *= np.uint32(2_654_435_761)
        bits ^= bits >> np.uint32(15)
        bits *= np.uint32(2_246_822_519)
        bits ^= bits >> np.uint32(13)
        share = (bits >> np.uint32(8)).astype(np.float32) / np.float32(16_777_216)
        yield (share * np.float32(4) + np.float32(1 / 1024 if shape[0] == "+" else -2)).reshape(sizes)


def summary(value):
    """As `summary` in src/beside/mod.rs."""
    flat = np.asarray(value, dtype=np.float32).ravel()
    some = [float(flat[i * (flat.size - 1) // 15]) for i in range(16)]
    wide = flat.astype(np.float64)
    return " ".join(map(str, [flat.size, wide.mean(), math.sqrt((wide * wide).mean()), *some]))


def packed(x):
    return np.ascontiguousarray(x)


def stencil(x):
    middle = x[1:-1, 1:-1]
    return middle + 0.1 * (x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:] - 4.0 * middle)


def numpy_cases(_threads):
    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def softmax(x, axis):
        value = np.exp(x - x.max(axis, keepdims=True))
        value /= value.sum(axis, keepdims=True)
        return value

    def layer_norm(x):
        value = x - x.mean(1, keepdims=True)
        value /= np.sqrt(np.einsum("ij,ij->i", value, value)[:, None] / x.shape[1] + 1e-5)
        return value

    cases = {
        "a*b + c - a/2": lambda a, b, c: a * b + c - a / 2,
        "exp(a)*exp(-b) + 1/(1 + exp(c))": lambda a, b, c: np.exp(a) * np.exp(-b) + 1 / (1 + np.exp(c)),
        "where(a < b, a, c)": lambda a, b, c: np.where(a < b, a, c),
        "exp": np.exp,
        "ln": np.log,
        "tanh": np.tanh,
        "sigmoid": sigmoid,
        "silu": lambda x: x / (1 + np.exp(-x)),
        "x**2": lambda x: x**2,
        "x**1.5": lambda x: x**1.5,
        "stencil": stencil,
        "a + b": lambda a, b: a + b,
        "a * exp(b)": lambda a, b: a * np.exp(b),
        "a + b.T": lambda a, b: a + b.T,
        "sum": lambda a: a.sum(),
        "sum of a.T": lambda a: a.T.sum(),
        "sum 0": lambda a: a.sum(0),
        "sum 1": lambda a: a.sum(1),
        "sum 0 of a.T": lambda a: a.T.sum(0),
        "sum 1 of a.T": lambda a: a.T.sum(1),
        "max 1": lambda a: a.max(1),
        "mean 02": lambda a: a.mean((0, 2)),
        "softmax rows": lambda a: softmax(a, 1),
        "softmax columns": lambda a: softmax(a, 0),
        "layer_norm": layer_norm,
        "copy of a.T": lambda a: packed(a.T),
        "permute 0213": lambda a: packed(a.transpose(0, 2, 1, 3)),
        "permute 021": lambda a: packed(a.transpose(0, 2, 1)),
        "permute 102": lambda a: packed(a.transpose(1, 0, 2)),
        "matmul": np.matmul,
    }
    return cases, lambda array: array, contextlib.nullcontext()


def numexpr_cases(threads):
    import numexpr

    numexpr.set_num_threads(threads)

    def case(text):
        return lambda *given: numexpr.evaluate(text, dict(zip("abc", given)), {})

    def times_exp(a, b):
        # Stretched operands are computed anew for each row: not by who looks.
        return numexpr.evaluate("a * b", {"a": a, "b": numexpr.evaluate("exp(b)", {"b": b}, {})}, {})

    # Numbers with a point are `float64` to numexpr, and so would be the results.
    numbers = {"tenth": np.float32(0.1), "four": np.float32(4)}
    exponent = np.float32(1.5)

    def stencil(x):
        parts = {"m": x[1:-1, 1:-1], "u": x[:-2, 1:-1], "d": x[2:, 1:-1], "l": x[1:-1, :-2], "r": x[1:-1, 2:]}
        return numexpr.evaluate("m + tenth * (u + d + l + r - four * m)", parts | numbers, {})

    cases = {
        "a*b + c - a/2": case("a*b + c - a/2"),
        "exp(a)*exp(-b) + 1/(1 + exp(c))": case("exp(a)*exp(-b) + 1/(1 + exp(c))"),
        "where(a < b, a, c)": case("where(a < b, a, c)"),
        "exp": case("exp(a)"),
        "ln": case("log(a)"),
        "tanh": case("tanh(a)"),
        "sigmoid": case("1/(1 + exp(-a))"),
        "silu": case("a/(1 + exp(-a))"),
        "x**2": case("a**2"),
        "x**1.5": lambda a: numexpr.evaluate("a**b", {"a": a, "b": exponent}, {}),
        "stencil": stencil,
        "a + b": case("a + b"),
        "a * exp(b)": times_exp,
        "a + b.T": lambda a, b: numexpr.evaluate("a + b", {"a": a, "b": b.T}, {}),
    }
    return cases, lambda array: array, contextlib.nullcontext()


def torch_cases(threads):
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    cases = {
        "a*b + c - a/2": lambda a, b, c: a * b + c - a / 2,
        "exp(a)*exp(-b) + 1/(1 + exp(c))": lambda a, b, c: a.exp() * (-b).exp() + 1 / (1 + c.exp()),
        "where(a < b, a, c)": lambda a, b, c: torch.where(a < b, a, c),
        "exp": torch.exp,
        "ln": torch.log,
        "tanh": torch.tanh,
        "sigmoid": torch.sigmoid,
        "gelu": F.gelu,
        "silu": F.silu,
        "x**2": lambda x: x**2,
        "x**1.5": lambda x: x**1.5,
        "stencil": stencil,
        "a + b": lambda a, b: a + b,
        "a * exp(b)": lambda a, b: a * b.exp(),
        "a + b.T": lambda a, b: a + b.t(),
        "sum": lambda a: a.sum(),
        "sum of a.T": lambda a: a.t().sum(),
        "sum 0": lambda a: a.sum(0),
        "sum 1": lambda a: a.sum(1),
        "sum 0 of a.T": lambda a: a.t().sum(0),
        "sum 1 of a.T": lambda a: a.t().sum(1),
        "max 1": lambda a: a.amax(1),
        "mean 02": lambda a: a.mean((0, 2)),
        "softmax rows": lambda a: F.softmax(a, 1),
        "softmax columns": lambda a: F.softmax(a, 0),
        "layer_norm": lambda a: F.layer_norm(a, a.shape[1:]),
        "copy of a.T": lambda a: a.t().contiguous(),
        "permute 0213": lambda a: a.permute(0, 2, 1, 3).contiguous(),
        "permute 021": lambda a: a.permute(0, 2, 1).contiguous(),
        "permute 102": lambda a: a.permute(1, 0, 2).contiguous(),
        "matmul": torch.matmul,
        "gelu(a@b + c)": lambda a, b, c: F.gelu(torch.addmm(c, a, b)),
    }
    return cases, torch.from_numpy, torch.inference_mode()


def measured(run, least):
    """The best of some samples' nanoseconds for a call, after one for caches and pools."""
    run()
    start = time.perf_counter_ns()
    run()
    best = once = time.perf_counter_ns() - start
    repeats = range(min(max(math.ceil(least / once), 1), 1_000_000))
    # Another takes long, and says nothing new, where a call is as long as many samples.
    for _ in range(SAMPLES if once < 20 * least else 0):
        start = time.perf_counter_ns()
        for _ in repeats:
            run()
        best = min(best, (time.perf_counter_ns() - start) / len(repeats))
    return best


def main(contender, threads, milliseconds, *options):
    make = {"numpy": numpy_cases, "numexpr": numexpr_cases, "torch": torch_cases}[contender]
    cases, taken_over, context = make(int(threads))
    with context:
        for line in sys.stdin:
            label, operation, kib, *shapes = line.rstrip("\n").split("\t")
            if not (case := cases.get(operation)):
                continue
            given = [taken_over(array) for array in inputs(shapes)]
            value = ["\t" + summary(case(*given))] if "--values" in options else []
            nanoseconds = measured(lambda: case(*given), float(milliseconds) * 1e6)
            print(f"{label}\t{kib}\t{nanoseconds:.1f}", *value, sep="")


main(*sys.argv[1:])
