# Python, and what its users have.

check python 120 pypi:pip <<'BASH'
cat >a.py <<'PY'
import ctypes, gc, hashlib, json, multiprocessing, os, subprocess, sqlite3, sys, threading, zlib

def work(seed):
    kept = {}
    for i in range(30000):
        kept[i * 7919 % 3001] = bytes((seed * 31 + i * 131) % 5000)
    return sum(map(len, kept.values()))

if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(3) as pool:
            print(pool.map(work, range(6)))
    # Forks while threads are at work.
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        child = os.fork()
        if child == 0:
            os._exit(0 if work(1) else 1)
        assert os.waitpid(child, 0)[1] == 0
    for thread in threads:
        thread.join()
    children = [subprocess.Popen([sys.executable, "-S", "-c", "print(len('x' * 100000))"], stdout=subprocess.PIPE) for _ in range(50)]
    print(sum(int(child.communicate()[0]) for child in children))
    for _ in range(150):
        subprocess.run(["true"], check=True)
    base = sqlite3.connect(":memory:")
    base.execute("create table t (a, b)")
    base.executemany("insert into t values (?, ?)", ((i % 100, "x" * (i % 200)) for i in range(50000)))
    print(base.execute("select sum(length(b)) from t where a < 50").fetchone())
    print(zlib.crc32(zlib.decompress(zlib.compress(json.dumps(list(range(200000))).encode()))))
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    for n in range(1, 100000, 37):
        libc.free(libc.malloc(n))
    gc.collect()
PY
"$python" a.py
PYTHONMALLOC=malloc "$python" a.py
PYTHONMALLOC=malloc_debug "$python" -X dev -c 'import json, email, http.client, xml.dom.minidom; print(len(json.dumps([list(range(100))] * 1000)))'
BASH

# Which tests pass, fail and are left out is the same.
check numpy-tests 3000 gcc pypi:numpy pypi:pytest pypi:pytest-xdist pypi:hypothesis pypi:meson pypi:ninja <<'BASH'
export PATH=$(dirname "$python"):$PATH OMP_NUM_THREADS=1
"$python" -m pytest --pyargs numpy -m 'not slow' -n 2 -q -rfE -p no:cacheprovider >all || [ $? = 1 ]
tail -1 all | sed 's/ in .*//; s/, [0-9]* warnings*//'
sed -n 's/^\(FAILED\|ERROR\) \([^ ]*\).*/\1 \2/p' all | sort
BASH

check torch 600 pypi:torch pypi:numpy <<'BASH'
cat >a.py <<'PY'
import threading
import torch
from torch.utils.data import DataLoader, Dataset

class Data(Dataset):
    def __len__(self):
        return 512
    def __getitem__(self, i):
        g = torch.Generator().manual_seed(i)
        return torch.randn(3, 32, 32, generator=g), i % 10

if __name__ == "__main__":
    torch.set_num_threads(2)
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.BatchNorm2d(16), torch.nn.ReLU(), torch.nn.Conv2d(16, 32, 3, stride=2), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(32 * 14 * 14, 10))
    adam = torch.optim.Adam(net.parameters())
    seen = 0
    for how in ("fork", "spawn"):
        for x, y in DataLoader(Data(), batch_size=32, num_workers=2, multiprocessing_context=how):
            loss = torch.nn.functional.cross_entropy(net(x), y)
            adam.zero_grad()
            loss.backward()
            adam.step()
            seen += len(y)
    assert torch.isfinite(loss)
    torch.save(net.state_dict(), "net")
    net.load_state_dict(torch.load("net"))
    threads = [threading.Thread(target=lambda: [torch.randn(200, 200) @ torch.randn(200, 200) for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(seen)
PY
OMP_NUM_THREADS=2 "$python" a.py
BASH

check onnxruntime 300 pypi:numpy pypi:onnx pypi:onnxruntime <<'BASH'
cat >a.py <<'PY'
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper, numpy_helper
w = numpy_helper.from_array(np.ones((256, 256), np.float32) / 256, "w")
nodes = [helper.make_node("MatMul", ["x" if i == 0 else f"h{i - 1}", "w"], [f"h{i}"]) for i in range(8)]
graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 256])], [helper.make_tensor_value_info("h7", TensorProto.FLOAT, ["n", 256])], [w])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
for arena in (True, False):
    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena = arena
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    print(sum(float(session.run(None, {"x": np.ones((n, 256), np.float32)})[0].sum()) for n in range(1, 200)))
PY
"$python" a.py
BASH

# Libraries that bring an allocator inside (polars, pyarrow), start processes of their own (joblib), or are of C++ that throws.
check science 600 pypi:numpy pypi:pandas pypi:scipy pypi:scikit-learn pypi:polars pypi:pyarrow pypi:lxml pypi:pillow pypi:numba <<'BASH'
cat >a.py <<'PY'
import io, numpy as np, pandas as pd, polars as pl, pyarrow as pa, pyarrow.compute as pc, scipy.sparse.linalg, scipy.sparse
import lxml.etree, numba, PIL.Image
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score

if __name__ == "__main__":
    r = np.random.default_rng(1)
    f = pd.DataFrame({"g": r.integers(0, 1000, 500000), "v": r.random(500000), "s": r.integers(0, 50, 500000).astype(str)})
    print(len(f.groupby(["g", "s"]).v.agg(["sum", "mean"])), len(f.merge(f.head(1000), on="g")), len(pd.read_csv(io.StringIO(f.head(20000).to_csv()))))
    print(pl.from_pandas(f).group_by("g").agg(pl.col("v").sum()).height, pc.sum(pa.array(range(1000000))))
    for pool in (pa.system_memory_pool(), pa.default_memory_pool()):
        print(pa.array(list(range(100000)), memory_pool=pool).nbytes)
    a = scipy.sparse.random(2000, 2000, 0.01, random_state=1, format="csc") + scipy.sparse.eye(2000, format="csc") * 10
    print(bool(np.isfinite(scipy.sparse.linalg.splu(a).solve(np.ones(2000))).all()))
    x, y = make_classification(2000, random_state=1)
    print(len(cross_val_score(RandomForestClassifier(50, n_jobs=2, random_state=1), x, y, n_jobs=2)))
    print(len(lxml.etree.fromstring("<a>" + "<b c='d'>e</b>" * 50000 + "</a>")))
    PIL.Image.new("RGB", (3000, 2000), "red").rotate(30).save("a.png")
    try:
        lxml.etree.fromstring("<a>")
    except lxml.etree.XMLSyntaxError:
        print("thrown")
    print(numba.njit(lambda n: np.ones(n).sum())(1000))
PY
"$python" a.py
BASH
