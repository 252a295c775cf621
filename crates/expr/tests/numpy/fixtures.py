#!/usr/bin/env python3
"""What NumPy computes, for tests/numpy.rs to compare with.

    fixtures.py           writes fixtures.json beside this file
    fixtures.py --check   compares that file with what NumPy computes today
"""

import json
import pathlib
import sys

import numpy as np

FILE = pathlib.Path(__file__).with_name("fixtures.json")


def arrays(dtype):
    random = np.random.default_rng(7)
    wide = np.concatenate([
        random.normal(size=40), random.normal(scale=20.0, size=16), [0.0, -0.0, 1.0, -1.0, 0.5, 1e-6, -1e-6, 80.0, -80.0],
        [np.inf, -np.inf, np.nan],
    ]).astype(dtype)
    return {
        "wide": wide,
        "positive": np.abs(wide[:56]) + dtype(1e-3),
        "matrix": random.normal(size=(5, 7)).astype(dtype),
        "other": random.normal(size=(5, 7)).astype(dtype),
        "row": random.normal(size=(7,)).astype(dtype),
        "column": random.normal(size=(5, 1)).astype(dtype),
        "one": random.normal(size=(1, 1)).astype(dtype),
        "cube": random.normal(size=(2, 3, 4)).astype(dtype),
        "tall": random.normal(size=(7, 6)).astype(dtype),
        "batch": random.normal(size=(2, 3, 5)).astype(dtype),
        "batch_right": random.normal(size=(1, 5, 4)).astype(dtype),
        "none": np.zeros((0, 3), dtype),
        "no_columns": np.zeros((3, 0), dtype),
        "long": random.normal(size=(3, 1000)).astype(dtype),
    }


def erf(x):
    import math
    return np.vectorize(math.erf, otypes=[np.float64])(x.astype(np.float64))


def softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def layer_norm(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + x.dtype.type(1e-5))


def cases(a):
    wide, positive, m, o, row, column = (a[k] for k in ("wide", "positive", "matrix", "other", "row", "column"))
    one, cube, tall, none = a["one"], a["cube"], a["tall"], a["none"]
    t = m.dtype.type
    yield "exp", np.exp(wide)
    yield "ln", np.log(positive)
    yield "sqrt", np.sqrt(positive)
    yield "tanh", np.tanh(wide)
    yield "sigmoid", t(1) / (t(1) + np.exp(-wide))
    yield "relu", np.maximum(wide, t(0))
    # At -inf a limit, where the formulas have 0 times infinity.
    below = wide == -np.inf
    yield "gelu", np.where(below, -0.0, 0.5 * wide.astype(np.float64) * (1 + erf(wide / np.sqrt(2)))).astype(m.dtype)
    yield "silu", np.where(below, t(-0.0), wide / (t(1) + np.exp(-wide)))
    yield "abs", np.abs(wide)
    yield "recip", t(1) / wide
    yield "neg", -wide
    yield "powf", np.power(positive, t(1.7))
    yield "add", m + o
    yield "sub_row", m - row
    yield "mul_column", m * column
    yield "div_outer", column / row
    yield "rsub", t(1.5) - m
    yield "rdiv", t(2) / m
    yield "stretch_one", m + one
    yield "maximum", np.maximum(m, row)
    yield "minimum", np.minimum(column, m)
    yield "where", np.where(m < row, m, o * t(2))
    yield "chain", m * o + row - m / t(2)
    yield "none_add", none + a["matrix"][:1, :3]
    yield "transpose_add", tall.T[:, :5] + m.T[:6]
    yield "permute", np.transpose(cube, (2, 0, 1)) * t(3)
    yield "reshape_permuted", np.transpose(cube, (1, 0, 2)).reshape(6, 4) + t(1)
    yield "slice", m[1:4, 2:6] * o[1:4, 2:6]
    yield "sum_all", m.sum()
    yield "sum_0", m.sum(0)
    yield "sum_1_keep", m.sum(1, keepdims=True)
    yield "sum_0_2", cube.sum((0, 2))
    yield "sum_1", cube.sum(1)
    yield "sum_long", a["long"].sum(1)
    yield "sum_fused", (m * o).sum(1)
    yield "mean", cube.mean((0, 1))
    yield "max", cube.max(2)
    yield "min", cube.min((0, 1))
    yield "prod", cube.prod(1)
    yield "sum_none", none.sum(0)
    yield "max_no_rows", a["no_columns"].max(0)
    yield "matmul", m @ tall
    yield "matmul_transposed", m.T @ o
    yield "matmul_batch", a["batch"] @ a["batch_right"]
    yield "matmul_none", a["no_columns"] @ none
    yield "linear_relu", np.maximum(m @ tall + tall[0], t(0))
    yield "softmax_last", softmax(cube, 2)
    yield "softmax_first", softmax(cube, 0)
    yield "layer_norm", layer_norm(cube)


def texts(array):
    """Numbers that read back as they are, also those that JSON has no word for."""
    return [repr(float(x)) for x in np.asarray(array).ravel()]


def made():
    result = {}
    with np.errstate(all="ignore"):
        for dtype in (np.float32, np.float64):
            inputs = arrays(dtype)
            as_case = lambda x: {"shape": list(np.shape(x)), "values": texts(x)}
            result[np.dtype(dtype).name] = {
                "inputs": {name: as_case(x) for name, x in inputs.items()},
                "outputs": {name: as_case(x) for name, x in cases(inputs)},
            }
    return result


def differences(old, new):
    for dtype, groups in new.items():
        # The sums of other versions and processors differ in their last places.
        tolerance = 16 * float(np.finfo(dtype).eps)
        for group, wanted in groups.items():
            for name, case in wanted.items():
                kept = old[dtype][group].get(name)
                if kept is None or kept["shape"] != case["shape"]:
                    yield f"{dtype} {name}: another shape, or none"
                    continue
                a, b = (np.array([float(x) for x in c["values"]]) for c in (kept, case))
                if not np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True):
                    yield f"{dtype} {name}: other values"


if __name__ == "__main__":
    new = made()
    if sys.argv[1:] == ["--check"]:
        wrong = list(differences(json.loads(FILE.read_text()), new))
        print("\n".join(wrong) or f"NumPy {np.__version__} agrees")
        sys.exit(bool(wrong))
    FILE.write_text(json.dumps(new, indent=None, separators=(",", ":")) + "\n")
