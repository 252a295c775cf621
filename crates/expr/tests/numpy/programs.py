#!/usr/bin/env python3
"""Programs in a small language of a stack, and what NumPy computes of them, for tests/programs.rs to compare with.

    programs.py           writes programs.json beside this file
    programs.py --check   compares that file with what NumPy computes today

A program is its words one behind the other: the name of a leaf puts it on the stack, an operation takes what it is of from there and puts
its value in the place. What an operation needs to be told stands behind a colon.
"""

import json
import math
import os
import pathlib
import random
import sys
import warnings

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import numpy as np

FILE = pathlib.Path(__file__).with_name("programs.json")

# The leaves: a shape, the steps along its axes, where the first element is, and how many elements there are in memory. The element i there is
# (7 i modulo 33 - 16) / 8.
LEAVES = {
    "one": ([], [], 0, 1),
    "four": ([4], [1], 0, 4),
    "back": ([4], [-2], 7, 9),
    "row": ([1, 5], [5, 1], 3, 10),
    "column": ([3, 1], [2, 1], 1, 8),
    "matrix": ([3, 5], [5, 1], 0, 15),
    "turned": ([3, 5], [1, 3], 2, 17),
    "gaps": ([5, 3], [-7, 2], 30, 40),
    "repeated": ([3, 4], [0, 1], 5, 10),
    "quad": ([4, 4], [4, 1], 0, 16),
    "cube": ([2, 3, 4], [12, 4, 1], 0, 24),
    "mixed": ([2, 3, 4], [1, 8, -2], 6, 24),
    "none": ([0, 3], [3, 1], 0, 0),
    "tall": ([701, 3], [3, 1], 0, 2103),
    "wide": ([3, 701], [701, 1], 0, 2103),
    "fallen": ([3, 701], [1, 3], 0, 2103),
    "long": ([1, 1200], [1200, 1], 0, 1200),
}
# Numbers at the ends, with every sign.
ODD = ["nan", "inf", "-inf", "0.0", "-0.0", "1.0", "-1.0", "1e-40", "-1e-40", "2.5", "-2.5"]
INDICES = {"i": ([3], [2, 0, 2]), "j": ([2, 2], [1, 0, 2, 1]), "k": ([], [1]), "no_index": ([0], [])}

# What has to be equal to the last bit: nothing here is rounded twice.
EXACT = """
odd neg|odd abs|odd square|odd recip|odd sqrt|odd rsqrt|odd relu|odd exp #0.0 mul
odd odd unsqueeze:1 maximum|odd odd unsqueeze:1 minimum|odd #0.0 maximum|odd #-0.0 minimum
odd odd unsqueeze:1 lt|odd odd unsqueeze:1 le|odd odd unsqueeze:1 gt|odd odd unsqueeze:1 ge
odd odd unsqueeze:1 equals|odd odd unsqueeze:1 differs
odd odd unsqueeze:1 lt odd #0.0 equals or|odd #0.0 gt odd #2.0 lt and|odd #0.0 gt not
odd #0.0 lt odd neg odd where|odd odd equals #1.0 #0.0 where|matrix column gt matrix row where
odd clip:-1,1|odd clip:1,-1|odd clip:-inf,2|odd clip:nan,1
odd powf:2|odd powf:-1|odd powf:1|odd powf:0|odd powf:0.5
odd powi:2|odd powi:-1|odd powi:0|odd powi:1|quad powi:3|quad powi:4
odd narrow|matrix narrow|odd #0.0 gt cast|matrix #0.25 gt cast sum:*
odd max:0|odd min:0|odd slice:0,1,_ max:0|odd slice:0,3,5 max:0|odd slice:0,3,5 min:0|odd slice:0,4,5 max:0
odd argmax:0|odd argmin:0|odd slice:0,1,_ argmax:0|odd slice:0,1,_ argmin:0|odd slice:0,3,5 argmax:0|odd slice:0,3,5 argmin:0
odd unsqueeze:1 odd unsqueeze:0 maximum argmax:0|odd unsqueeze:1 odd unsqueeze:0 minimum argmin:-1
matrix abs argmax:0|matrix abs argmax:1|matrix abs argmink:-1|cube abs argmax:0|cube abs argmaxk:1|cube argmin:2|mixed abs argmax:0|mixed abs argmin:1
tall argmax:0|tall argmin:1 slice:0,-9,_|wide argmax:1|fallen argmax:1|fallen argmin:0 slice:0,-9,_|long argmax:1|long argmax:0 slice:0,5,9
matrix slice:0,1,3|matrix slice:-1,-3,-1|matrix slice:1,2,2|matrix stepped:1,_,_,2|matrix stepped:1,_,_,-1|matrix stepped:1,1,-1,-2
matrix stepped:0,-2,_,3|cube stepped:2,_,_,-3|mixed stepped:1,0,3,2 flip:0|gaps flip:0 flip:-1|back flip:0|turned stepped:1,1,5,-3
wide stepped:1,5,-7,-97|long flip:1 stepped:1,_,_,200|quad slice:0,0,1 flip:0|repeated flip:0 stepped:1,_,_,-2
matrix index:0,1|matrix index:1,-1|cube index:1,-2|mixed index:-1,0 index:0,1|row squeeze:0|column squeeze:-1|four unsqueeze:0|four unsqueeze:-1
cube unsqueeze:2 squeeze:-2|cube transpose|mixed permute:-1,0,1|mixed reshape:4,6|turned reshape:15|back reshape:2,2 transpose|cube permute:2,0,1 reshape:8,3
row broadcast:2,3,5|one broadcast:2,2|column broadcast:3,2
matrix turned concat:0,2|matrix turned concat:-1,2|matrix column gaps transpose concat:1,3|four back four concat:0,3|none none concat:0,2
cube mixed concat:1,2|cube mixed flip:1 cube concat:-2,3|matrix slice:0,0,0 turned concat:0,2
four back stack:0,2|four back stack:-1,2|four back four neg stack:1,3|cube mixed stack:0,2|cube mixed stack:1,2|cube mixed stack:3,2|one one stack:0,2
tall tall neg stack:-1,2 slice:0,-3,_|wide fallen stack:2,2 slice:1,695,_|matrix #1.0 gt matrix #0.0 gt stack:1,2
matrix i gather:0|matrix i gather:1|matrix j gather:-1|cube i gather:1|cube j gather:2|mixed k gather:1|mixed i gather:1|wide i gather:0 slice:1,-4,_
back i gather:0|column i gather:0|matrix no_index gather:1|tall transpose j gather:0 slice:2,3,8|wide neg i gather:0 slice:1,-4,_
matrix argmax:1 one_hot:5|i one_hot:3|j one_hot:4|k one_hot:2|no_index one_hot:2|i i stack:0,2|i flip:0 i concat:0,2
four i gather:0 matrix slice:1,0,3 add|cube argmax:1 flip:0|matrix transpose argmin:0 one_hot:6
matrix #0.5 gt count:0|matrix #0.5 gt countk:1|cube #0.0 lt any:2|cube #-1.5 gt all:0,1|mixed #0.0 lt countk:*|cube #1.9 gt any:*|none #0.0 gt all:0|none #0.0 gt any:0
none #0.0 gt count:0|none #0.0 gt all:*|wide #0.5 gt count:1|tall #0.5 gt count:0|fallen #1.9 lt all:1|row #0.0 gt any:0|row #0.0 gt count:0|column #0.0 gt all:1
long #0.0 gt count:0 slice:0,-5,_|odd odd equals all:*|odd odd differs any:*|odd odd differs count:0
matrix #0.5 gt any:1 not|cube #0.5 gt any:2 cube #0.5 lt all:2 and|matrix #0.5 gt flip:1 matrix #0.0 lt or
matrix #0.0 gt materialise|matrix #0.0 gt transpose reshape:15|matrix #0.0 gt row column where
matrix map|matrix row zip_map|cube cumsum:0|cube cumsum:1|mixed cumsum:2|four cumsum:0|column cumsum:1|none cumsum:0|none cumsum:1
wide cumsum:1 slice:1,-5,_|tall cumsum:0 slice:0,-5,_|fallen cumsum:1 slice:1,-5,_|odd slice:0,3,_ cumsum:0
four back dot|matrix four slice:0,0,1 broadcast:5 matmul|four quad matmul|quad back matmul|matrix gaps matmul|cube quad matmul
cube four matmul|back mixed transpose matmul|none matrix matmul|back flip:0 back flip:0 dot|repeated quad matmul|mixed quad transpose matmul
matrix mean:* matrix sub|matrix meank:1 matrix sub sum:1
"""

CLOSE = """
matrix var:0|matrix var:1|matrix vark:*|cube var:0,2|mixed vark:1|tall var:0|wide var:1|fallen var:1|one var:*|four var1:0|column var:1|column var1:1
matrix std:0|matrix stdk:-1|cube std:1|mixed std:0,1|long std:1|four std1:0|matrix norm:0|matrix norm:1|matrix normk:*|cube norm:0,2|mixed norm:1|tall norm:0
none var:0|none std:1|none norm:0|none norm:1|tall cumsum:0 sigmoid std:0
odd powf:1.5|odd powf:-3|odd powf:3|odd powf:-0.5|odd powf:-2|quad powi:-2|odd powf:4|odd powf:1e-3|odd odd unsqueeze:1 pow|quad abs quad pow|quad powf:3|quad powf:-2|quad powf:-0.5|quad powf:0.5
quad powi:7|quad powi:-5|quad powi:31|matrix abs rsqrt|matrix square rsqrt
odd exp|odd ln|odd tanh|odd sigmoid|odd silu|odd gelu
matrix softmax:0|matrix softmax:1|cube softmax:1|mixed softmax:0|wide softmax:1 slice:1,-4,_|tall softmax:0 slice:0,-4,_|cube layer_norm|mixed layer_norm|wide layer_norm slice:1,0,9
tall tall cumsum:0 mul std:0|wide exp cumsum:1 slice:1,-5,_|fallen exp cumsum:1 slice:1,-5,_|tall exp cumsum:0 slice:0,-5,_
wide fallen transpose matmul|four exp back exp dot|matrix exp four slice:0,0,1 broadcast:5 matmul|cube exp quad exp matmul
odd slice:0,5,_ layer_norm|odd slice:0,5,_ var:0|odd var:0|odd norm:0|odd slice:0,2,_ softmax:0|odd slice:0,5,_ softmax:0
"""


def leaf(name, dtype):
    if name == "odd":
        return np.array([float(x) for x in ODD]).astype(dtype)
    if name in INDICES:
        shape, values = INDICES[name]
        return np.array(values, np.int64).reshape(shape)
    shape, steps, start, count = LEAVES[name]
    memory = ((7 * np.arange(count) % 33 - 16) / 8).astype(dtype)
    if 0 in shape:
        return memory.reshape(shape)
    return np.lib.stride_tricks.as_strided(memory[start:], shape, [step * memory.itemsize for step in steps])


def signed_zeros(of_zeros, result):
    """Where a largest or smallest number is 0, its sign as well, which NumPy leaves open."""
    return np.where(result == 0, of_zeros, result)


def maximum(x, y):
    zero = np.where(np.signbit(x) & np.signbit(y), -0.0, 0.0).astype(x.dtype)
    return signed_zeros(zero, np.maximum(x, y))


def minimum(x, y):
    return -maximum(-x, -y)


def max_of(x, axis, keepdims):
    zero = np.where(np.all(np.signbit(x) | (x != 0), axis=axis, keepdims=keepdims), -0.0, 0.0).astype(x.dtype)
    return signed_zeros(zero, np.max(x, axis=axis, keepdims=keepdims))


def erf(x):
    return np.vectorize(math.erf, otypes=[np.float64])(np.asarray(x, np.float64)).astype(x.dtype)


def softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def layer_norm(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + x.dtype.type(1e-5))


UNARY = {
    "neg": np.negative, "exp": np.exp, "ln": np.log, "sqrt": np.sqrt, "square": np.square, "tanh": np.tanh, "abs": np.abs,
    "rsqrt": lambda x: 1 / np.sqrt(x), "recip": lambda x: 1 / x, "relu": lambda x: np.where(x < 0, x.dtype.type(0), x),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    # At -inf a limit, where the formulas have 0 times infinity.
    "silu": lambda x: np.where(x == -np.inf, x.dtype.type(-0.0), x / (1 + np.exp(-x))),
    "gelu": lambda x: np.where(x == -np.inf, x.dtype.type(-0.0), x * ((1 + erf(x / x.dtype.type(2**0.5))) / 2)),
    "map": lambda x: x * x + 1, "not": np.logical_not,
    "transpose": lambda x: np.swapaxes(x, -1, -2), "materialise": np.copy, "layer_norm": layer_norm,
}
BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "pow": np.power,
    "maximum": maximum, "minimum": minimum, "zip_map": lambda x, y: x * y + x,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "equals": np.equal, "differs": np.not_equal,
    "and": np.logical_and, "or": np.logical_or, "matmul": np.matmul, "dot": np.dot,
}
REDUCTIONS = {
    "sum": np.sum, "mean": np.mean, "prod": np.prod, "max": max_of, "var": np.var, "std": np.std,
    "min": lambda x, **how: -max_of(-x, **how),
    "var1": lambda x, **how: np.var(x, ddof=1, **how), "std1": lambda x, **how: np.std(x, ddof=1, **how),
    "norm": lambda x, **how: np.sqrt(np.sum(np.square(x), **how)),
    "argmax": np.argmax, "argmin": np.argmin, "count": np.sum, "any": np.any, "all": np.all,
}


def numbers(text):
    return [None if word == "_" else int(word) for word in text.split(",")]


def places(x, axis, start, stop, step=1):
    index = [slice(None)] * x.ndim
    index[axis] = slice(start, stop)
    x = x[tuple(index)]
    index[axis] = slice(None, None, step)
    return x[tuple(index)]


def apply(stack, word, dtype):
    name, _, told = word.partition(":")
    if word[0] == "#":
        return stack.append(np.array(float(word[1:]), dtype))
    if name in LEAVES or name in INDICES or name == "odd":
        return stack.append(leaf(name, dtype))
    if name in ("concat", "stack"):
        axis, count = numbers(told)
        parts = stack[-count:]
        del stack[-count:]
        return stack.append((np.concatenate if name == "concat" else np.stack)(parts, axis))
    if name == "where":
        condition, yes, no = stack[-3:]
        del stack[-3:]
        return stack.append(np.where(condition, yes, no))
    if name in BINARY or name == "gather":
        y, x = stack.pop(), stack.pop()
        return stack.append(np.take(x, y, int(told)) if name == "gather" else BINARY[name](x, y))
    x = stack.pop()
    keeps = name.endswith("k") and name[:-1] in REDUCTIONS
    if name.removesuffix("k") in REDUCTIONS:
        axes = None if told == "*" else tuple(numbers(told))
        axes = axes[0] if axes and len(axes) == 1 else axes
        result = REDUCTIONS[name.removesuffix("k")](x, axis=axes, keepdims=keeps)
    elif name in UNARY:
        result = UNARY[name](x)
    elif name == "powf":
        # Of one number NumPy makes roots and products, which are others at the ends.
        result = np.power(x, np.full_like(x, float(told)))
    elif name == "powi":
        result = np.power(x, np.full_like(x, int(told)))
    elif name == "clip":
        low, high = (np.array(float(x), dtype) for x in told.split(","))
        result = minimum(maximum(x, low), high)
    elif name == "cast":
        result = x.astype(dtype)
    elif name == "narrow":
        result = x.astype(np.float32).astype(dtype)
    elif name in ("slice", "stepped"):
        result = places(x, *numbers(told))
    elif name == "flip":
        result = np.flip(x, int(told))
    elif name == "index":
        axis, index = numbers(told)
        result = np.take(x, index, axis)
    elif name == "squeeze":
        result = np.squeeze(x, int(told))
    elif name == "unsqueeze":
        result = np.expand_dims(x, int(told))
    elif name == "permute":
        result = np.transpose(x, numbers(told))
    elif name == "reshape":
        result = np.reshape(x, numbers(told))
    elif name == "broadcast":
        result = np.broadcast_to(x, numbers(told))
    elif name == "softmax":
        result = softmax(x, int(told))
    elif name == "cumsum":
        result = np.cumsum(x, int(told))
    elif name == "one_hot":
        result = np.eye(int(told), dtype=dtype)[x]
    else:
        raise ValueError(word)
    stack.append(result)


def run(words, dtype):
    stack = []
    for word in words:
        apply(stack, word, dtype)
    if len(stack) != 1:
        raise ValueError(f"{len(stack)} values are left of {' '.join(words)}")
    return np.asarray(stack[0])


class Maker:
    """Random programs: what has been made is kept with its value in f64, by which is known what can be made of it."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def of(self, words):
        value = run(words, np.float64)
        if value.size > 20_000 or value.ndim > 6:
            raise ValueError("too large")
        return words, value

    def axis(self, x):
        return self.random.randrange(-x.ndim, x.ndim)

    def axes(self, x):
        count = self.random.randrange(1, x.ndim + 1)
        some = self.random.sample(range(x.ndim), count)
        return "*" if self.random.random() < 0.3 else ",".join(str(axis - self.random.choice((0, x.ndim))) for axis in some)

    def number(self):
        return f"#{self.random.randrange(-8, 9) / 4}"

    def truths(self, depth):
        kind = self.random.choice(("compare", "compare", "connect", "any"))
        if depth < 2 or kind == "compare":
            words, _ = self.floats(depth - 1)
            # No other values are close to such.
            return self.of([*words, self.number() + "1", self.random.choice(("lt", "le", "gt", "ge"))])
        if kind == "connect":
            (a, _), (b, _) = self.truths(depth - 1), self.truths(depth - 1)
            return self.of([*a, *b, self.random.choice(("and", "or")), *self.random.choice(([], ["not"]))])
        words, x = self.truths(depth - 1)
        if x.ndim == 0:
            return words, x
        return self.of([*words, self.random.choice(("any", "all", "anyk", "allk")) + ":" + self.axes(x)])

    def indices(self, depth, below):
        """Less than `below`, which is not 0."""
        words, x = self.floats(depth - 1)
        axis = [axis for axis in range(x.ndim) if 0 < x.shape[axis] <= below]
        if axis and self.random.random() < 0.7:
            return self.of([*words, self.random.choice(("argmax", "argmin")) + f":{self.random.choice(axis)}"])
        fitting = [name for name, (_, values) in INDICES.items() if max(values, default=0) < below]
        return self.of([self.random.choice(fitting)]) if fitting else self.of(["no_index"])

    def view(self, words, x):
        if x.ndim == 0:
            return self.of([*words, f"unsqueeze:{self.random.choice((0, -1))}"])
        axis = self.axis(x)
        size = x.shape[axis]
        start = self.random.randrange(size + 1)
        stop = self.random.randrange(start, size + 1)
        if self.random.random() < 0.3:
            start, stop = start - size if start < size else start, stop - size if 0 < stop < size else stop
        choices = [f"flip:{axis}", f"slice:{axis},{start},{stop}", f"stepped:{axis},_,_,{self.random.choice((-3, -2, -1, 2, 3))}",
                   f"stepped:{axis},{start},{stop},{self.random.choice((-2, -1, 2))}",
                   "permute:" + ",".join(map(str, self.random.sample(range(x.ndim), x.ndim))), "reshape:" + str(x.size), "materialise"]
        if size > 0:
            choices += [f"index:{axis},{self.random.randrange(-size, size)}"] * 2
        if x.ndim > 1:
            choices += ["transpose"] * 2 + [f"reshape:{x.shape[1]},{x.size // max(x.shape[1], 1)}"] * (x.shape[1] > 0 and x.ndim == 2)
        if x.ndim < 4:
            choices += [f"unsqueeze:{self.random.randrange(-x.ndim - 1, x.ndim + 1)}", "broadcast:2," + ",".join(map(str, x.shape))]
        if size == 1:
            choices += [f"squeeze:{axis}"] * 3
        return self.of([*words, self.random.choice(choices)])

    def floats(self, depth):
        if depth <= 0:
            return self.of([self.random.choice([name for name in LEAVES])])
        kind = self.random.choices(
            ("unary", "binary", "view", "reduce", "rows", "where", "cast", "gather", "one_hot", "join", "product", "same"),
            (4, 6, 6, 4, 3, 2, 1, 2, 1, 3, 2, 2))[0]
        words, x = self.floats(depth - 1)
        choice = self.random.choice
        if kind == "unary":
            op = choice(("neg", "exp", "tanh", "sigmoid", "silu", "gelu", "relu", "abs", "square", "powf:2", "powf:3", "powi:3", "powf:-2", "map",
                         "clip:-0.5,1", "abs sqrt", "abs #0.5 add ln", "square #1.0 add rsqrt", "abs #0.25 add powf:1.5", "#1.5 pow", "narrow"))
            return self.of([*words, *(op.split() if op != "#1.5 pow" else ["abs", "#1.5", "pow"])])
        if kind == "binary":
            other, _ = self.floats(depth - choice((1, 2, 3))) if self.random.random() < 0.8 else self.of([self.number()])
            op = choice(("add", "sub", "mul", "maximum", "minimum", "zip_map", "abs #1.0 add div"))
            return self.of([*words, *other, *op.split()])
        if kind == "view":
            return self.view(words, x)
        if kind == "same":
            # Twice: what was read once may be read again.
            changed, _ = self.view(words, x) if choice((True, False)) else self.of([*words, "exp"])
            return self.of([*words, *changed, choice(("add", "mul", "maximum"))])
        if kind == "where":
            condition, _ = self.truths(depth - 1)
            other, _ = self.floats(depth - 2)
            return self.of([*condition, *words, *other, "where"])
        if kind == "cast":
            condition, _ = self.truths(depth)
            return self.of([*condition, "cast"])
        if x.ndim == 0:
            return words, x
        axis = self.axis(x)
        if kind == "reduce":
            op = choice(("sum", "mean", "max", "min", "var", "std", "norm", "prod"))
            return self.of([*words, op + choice(("", "k")) + ":" + self.axes(x)])
        if kind == "rows":
            return self.of([*words, choice((f"softmax:{axis}", f"cumsum:{axis}", "layer_norm"))])
        if kind == "gather" and x.shape[axis] > 0:
            indices, _ = self.indices(depth - 1, x.shape[axis])
            return self.of([*words, *indices, f"gather:{axis}"])
        if kind == "one_hot" and x.shape[axis] > 0:
            return self.of([*words, f"argmax:{axis}", f"one_hot:{x.shape[axis] + choice((0, 2))}"])
        if kind == "join":
            op, count = choice(("concat", "stack")), choice((1, 2, 3))
            parts = list(words)
            for _ in range(count - 1):
                parts += [*words, choice(("neg", "square", "materialise", f"flip:{axis}"))]
            return self.of([*parts, f"{op}:{axis},{count}"])
        if kind == "product":
            if x.ndim == 1:
                return self.of([*words, *words, "exp", choice(("dot", "matmul"))])
            return self.of([*words, *words, "tanh", "transpose", "matmul"])
        return words, x


def random_programs(count):
    seed = 0
    while count > 0:
        seed += 1
        maker = Maker(seed)
        try:
            words, x = (maker.truths if seed % 7 == 0 else maker.floats)(maker.random.randrange(3, 8))
        except (ValueError, IndexError):
            # Shapes that do not go together.
            continue
        if len(words) < 4 or len(words) > 60 or x.size > 5000 or x.ndim > 6 or x.size == 0 and seed % 20:
            continue
        if x.dtype == np.float64:
            narrow = run(words, np.float32)
            scale = np.max(np.abs(x), initial=1.0)
            with np.errstate(all="ignore"):
                is_stable = np.all(np.isfinite(x)) and scale < 1e6 and np.max(np.abs(narrow - x), initial=0.0) < 1e-3 * scale
            if not is_stable:
                continue
        elif not np.array_equal(run(words, np.float32), x):
            continue
        count -= 1
        yield " ".join(words)


def some(values):
    """All of a few, every so many-th of many."""
    values = np.asarray(values).ravel()
    return values[:: len(values) // 24 + 1]


def text(x):
    return repr(float(x)).removesuffix(".0") if not isinstance(x, (bool, np.bool_)) else str(int(x))


def case(program, is_exact):
    words = program.split()
    with np.errstate(all="ignore"):
        x = run(words, np.float64)
        result = [program, list(x.shape), " ".join(map(text, some(x)))]
        narrow = run(words, np.float32)
        if not is_exact:
            # How far f32 is from that: so far may be others.
            narrow = narrow.astype(np.float64)
            apart = np.abs(narrow - x)[np.isfinite(x) & np.isfinite(narrow)]
            result.append(float(f"{np.max(apart, initial=0.0):.2g}"))
        elif not np.array_equal(narrow, x.astype(narrow.dtype), equal_nan=True):
            result.append(" ".join(map(text, some(narrow))))
    return result


def made():
    listed = lambda text: [program.strip() for line in text.split("\n") for program in line.split("|") if program.strip()]
    with np.errstate(all="ignore"):
        programs = list(random_programs(600))
    return {
        "leaves": LEAVES,
        "odd": ODD,
        "indices": INDICES,
        "exact": [case(program, True) for program in listed(EXACT)],
        "close": [case(program, False) for program in listed(CLOSE) + programs],
    }


def differences(old, new):
    for kind in ("exact", "close"):
        kept = {case[0]: case for case in old[kind]}
        for program, shape, values, *apart in new[kind]:
            apart = apart if kind == "close" else []
            if program not in kept or kept[program][1] != shape:
                yield f"{program}: another shape, or none"
                continue
            a, b = (np.array([float(x) for x in text.split()]) for text in (kept[program][2], values))
            # The sums of other versions and processors differ in their last places.
            tolerance = 1e-13 * np.max(np.abs(a[np.isfinite(a)]), initial=1.0) + 1e-7 * (apart or [0.0])[0]
            if len(a) != len(b) or not np.allclose(a, b, rtol=1e-13, atol=tolerance, equal_nan=True):
                yield f"{program}: other values"


def written(fixture):
    lines = [f"{json.dumps(key)}:{json.dumps(fixture[key])}" for key in ("leaves", "odd", "indices")]
    for key in ("exact", "close"):
        cases = ",\n".join(json.dumps(case, separators=(",", ":")) for case in fixture[key])
        lines.append(f"{json.dumps(key)}:[\n{cases}\n]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    new = json.loads(written(made()))
    if sys.argv[1:] == ["--check"]:
        wrong = list(differences(json.loads(FILE.read_text()), new))
        print("\n".join(wrong) or f"NumPy {np.__version__} agrees")
        sys.exit(bool(wrong))
    FILE.write_text(written(new))
