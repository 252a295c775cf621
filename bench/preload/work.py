"""What `./beside` measures, one piece of work a process: `work.py NAME [SIZE]` prints the milliseconds of the fastest round, after one that is not counted.

A round is some tens of milliseconds or more: what is made in it is freed in it.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

THREADS = int(os.environ.get("OMP_NUM_THREADS", "1"))
ROUNDS = int(os.environ.get("BESIDE_ROUNDS", "5"))


def rounds(run):
    run()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    print(f"{min(times) * 1e3:.4f}")


def arrays(kib):
    import numpy as np

    return [np.arange(kib * 256, dtype=np.float32) + i for i in range(3)]


def numpy(kib):
    a, b, c = arrays(int(kib))
    repeats = max(1, (64 << 10) // int(kib))

    def run():
        for _ in range(repeats):
            a * b + c - a / 2

    rounds(run)


def numpy_out(kib):
    """The same into memory that is there: what no allocator can be faster than."""
    import numpy as np

    a, b, c = arrays(int(kib))
    x, y = np.empty_like(a), np.empty_like(a)
    repeats = max(1, (64 << 10) // int(kib))

    def run():
        for _ in range(repeats):
            np.multiply(a, b, out=x)
            np.add(x, c, out=x)
            np.divide(a, 2, out=y)
            np.subtract(x, y, out=x)

    rounds(run)


def torch():
    import torch

    torch.manual_seed(1)
    torch.set_num_threads(THREADS)
    return torch


def chain():
    t = torch()
    a, b, c = (t.rand(4 << 20) for _ in range(3))

    def run():
        with t.inference_mode():
            for _ in range(4):
                (a * b + c - a / 2).tanh().mul(b).add(c).relu()

    rounds(run)


def mlp():
    t = torch()
    net = t.nn.Sequential(t.nn.Linear(512, 1024), t.nn.GELU(), t.nn.Linear(1024, 1024), t.nn.GELU(), t.nn.Linear(1024, 10))
    adam = t.optim.Adam(net.parameters())
    x, y = t.randn(512, 512), t.randint(0, 10, (512,))

    def run():
        for _ in range(3):
            adam.zero_grad()
            t.nn.functional.cross_entropy(net(x), y).backward()
            adam.step()

    rounds(run)


def encoder():
    """A layer of BERT's, as it is trained and as it answers requests of different lengths."""
    t = torch()
    layer = t.nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True, activation="gelu")
    requests = [t.randn(8, length, 256) for length in (128, 57, 100, 200)]

    def run():
        layer.train()
        for x in requests:
            layer(x).sum().backward()
            layer.zero_grad()
        layer.eval()
        with t.inference_mode():
            for x in requests:
                layer(x)

    rounds(run)


def convolutions():
    """Blocks of ResNet-50's, with fewer channels and random weights."""
    t = torch()

    class Block(t.nn.Module):
        def __init__(self, given, inner, stride):
            super().__init__()
            n = t.nn
            self.main = n.Sequential(
                n.Conv2d(given, inner, 1, bias=False), n.BatchNorm2d(inner), n.ReLU(),
                n.Conv2d(inner, inner, 3, stride, 1, bias=False), n.BatchNorm2d(inner), n.ReLU(),
                n.Conv2d(inner, 4 * inner, 1, bias=False), n.BatchNorm2d(4 * inner),
            )  # fmt: skip
            self.short = n.Conv2d(given, 4 * inner, 1, stride, bias=False)

        def forward(self, x):
            return (self.main(x) + self.short(x)).relu()

    net = t.nn.Sequential(
        t.nn.Conv2d(3, 32, 7, 2, 3), t.nn.ReLU(), t.nn.MaxPool2d(3, 2, 1),
        Block(32, 16, 1), Block(64, 32, 2), Block(128, 64, 2), t.nn.AdaptiveAvgPool2d(1), t.nn.Flatten(), t.nn.Linear(256, 100),
    ).eval()  # fmt: skip
    x = t.randn(8, 3, 160, 160)

    def run():
        with t.inference_mode():
            net(x)

    rounds(run)


def onnxruntime():
    """A perceptron by ONNX Runtime without its arena: each buffer is requested and freed."""
    import numpy as np
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    r = np.random.default_rng(1)
    weights = [numpy_helper.from_array(r.standard_normal((512, 512), np.float32) / 23, f"w{i}") for i in range(8)]
    nodes = []
    for i in range(8):
        nodes += [
            helper.make_node("MatMul", ["x" if i == 0 else f"r{i - 1}", f"w{i}"], [f"m{i}"]),
            helper.make_node("Tanh", [f"m{i}"], [f"r{i}"]),
        ]
    tensor = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 512])
    graph = helper.make_graph(nodes, "perceptron", [tensor("x")], [tensor("r7")], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.intra_op_num_threads = THREADS
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = [r.standard_normal((n, 512), np.float32) for n in (1024, 100, 700, 333)]

    def run():
        for x in inputs:
            session.run(None, {"x": x})

    rounds(run)


def pandas():
    import numpy as np
    import pandas as pd

    r = np.random.default_rng(1)
    n = 500_000
    frame = pd.DataFrame({"g": r.integers(0, 1000, n), "h": r.integers(0, 50, n), "v": r.random(n), "w": r.random(n)})

    def run():
        frame.groupby(["g", "h"]).agg({"v": ["sum", "mean"], "w": "max"})
        frame.assign(x=frame.v * frame.w + 1).sort_values("x").groupby("g").x.transform("mean")

    rounds(run)


def redis():
    """The server's own figures: it is the child that has the allocator, and so is what is waited for."""
    plain = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    with tempfile.TemporaryDirectory() as place:
        socket = f"{place}/socket"
        server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", place], stdout=subprocess.DEVNULL)
        try:
            while not Path(socket).exists():
                time.sleep(0.01)

            def run():
                for more in (["-t", "set,get,lpush,lpop,sadd,hset"], ["-t", "set,get", "-d", "20000", "-n", "3000"]):
                    command = ["redis-benchmark", "-s", socket, "-q", "-n", "10000", "-r", "5000", "-P", "8", *more]
                    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=plain)

            rounds(run)
        finally:
            server.terminate()
            server.wait()


def compile():
    """`make -j2` of files of C++, each with much of the standard library."""
    with tempfile.TemporaryDirectory() as place:
        names = [f"a{i}" for i in range(2)]
        for i, name in enumerate(names):
            text = "".join(f"#include <{header}>\n" for header in ("algorithm", "functional", "iostream", "map", "string", "vector"))
            text += "".join(f"int f{k}(int n) {{ std::map<std::string, std::vector<int>> m; m[std::to_string(n)].push_back({i + k}); return (int)m.size(); }}\n" for k in range(40))
            Path(place, f"{name}.cc").write_text(text)
        objects = " ".join(f"{name}.o" for name in names)
        Path(place, "Makefile").write_text(f"all: {objects}\n%.o: %.cc\n\tg++ -O1 -c -o $@ $<\n")

        def run():
            subprocess.run(["make", "-s", "-B", "-j2"], cwd=place, check=True)

        rounds(run)


globals()[sys.argv[1]](*sys.argv[2:])
