"""The contenders of `./beside`, their turns, and the table: see there. What is done stands in `work.py`."""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
TENZOR = HERE / "../../crates/preload/target/release/libtenzor_malloc.so"

NUMPY = {f"numpy {size}": ("numpy", str(kib)) for size, kib in
         (("64 KiB", 64), ("256 KiB", 256), ("1 MiB", 1 << 10), ("4 MiB", 4 << 10), ("16 MiB", 16 << 10), ("64 MiB", 64 << 10), ("256 MiB", 256 << 10))}  # fmt: skip
PROGRAMS = NUMPY | {
    "torch chain": ("chain",),
    "torch MLP, Adam": ("mlp",),
    "torch encoder layer": ("encoder",),
    "torch convolutions": ("convolutions",),
    "onnxruntime, no arena": ("onnxruntime",),
    "pandas group-by": ("pandas",),
    "redis": ("redis",),
    "make -j2": ("compile",),
}


def first(*paths):
    return next((str(path) for path in paths if path.exists()), None)


def contenders():
    """Name, library, settings. Those at their best give nothing back to the system."""
    libraries = Path("/usr/lib/x86_64-linux-gnu")
    wheels = sorted(Path(sys.prefix).glob("lib/python*/site-packages/cmeel.prefix/lib/libmimalloc.so*"))
    jemalloc = first(libraries / "libjemalloc.so.2")
    tcmalloc = first(libraries / "libtcmalloc_minimal.so.4")
    mimalloc = first(*wheels, libraries / "libmimalloc.so.3", libraries / "libmimalloc.so.2")
    most = str(1 << 40)
    everything = [
        ("glibc", "", {}),
        ("glibc, best", "", {"MALLOC_TOP_PAD_": str(64 << 20), "MALLOC_MMAP_MAX_": "0", "MALLOC_MMAP_THRESHOLD_": most, "MALLOC_TRIM_THRESHOLD_": most}),
        ("jemalloc", jemalloc, {}),
        ("jemalloc, best", jemalloc, {"MALLOC_CONF": "background_thread:false,dirty_decay_ms:-1,muzzy_decay_ms:-1"}),
        ("tcmalloc", tcmalloc, {}),
        ("mimalloc", mimalloc, {}),
        ("mimalloc, best", mimalloc, {"MIMALLOC_PURGE_DELAY": "-1"}),
        ("tenzor", str(TENZOR.resolve()), {}),
    ]
    for name, library, _ in everything:
        if library is None:
            print(f"left out, as its library is not there: {name}", file=sys.stderr)
    return {name: (library, settings) for name, library, settings in everything if library is not None}


def arguments():
    words = lambda text: text.split(",")
    parser = argparse.ArgumentParser("beside", description="Programs with libtenzor_malloc.so beside other allocators.")
    parser.add_argument("--runs", type=int, metavar="N", help="processes of each contender: 5")
    parser.add_argument("--only", type=words, metavar="WORDS", default=[""], help="programs whose names contain one of these: numpy,redis")
    parser.add_argument("--without", type=words, metavar="WORDS", default=[], help="contenders to be left out: 'tcmalloc,glibc, best' by words of their names")
    parser.add_argument("--threads", type=int, default=1, help="of NumPy, PyTorch and ONNX Runtime: 1")
    parser.add_argument("--rounds", type=int, metavar="N", help="of the work in a process, of which the fastest counts: 5")
    parser.add_argument("--quick", action="store_true", help="whether it works: one run of one round")
    options = parser.parse_args()
    options.runs = options.runs or (1 if options.quick else 5)
    options.rounds = options.rounds or (1 if options.quick else 5)
    return options


def environment(options, library, settings):
    dropped = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "LD_PRELOAD")
    kept = {k: v for k, v in os.environ.items() if k not in dropped and not k.startswith(("MALLOC_", "MIMALLOC_", "TENZOR_"))}
    threads = {f"{name}_NUM_THREADS": str(options.threads) for name in ("OMP", "MKL", "OPENBLAS")}
    return kept | threads | settings | {"BESIDE_ROUNDS": str(options.rounds)} | ({"LD_PRELOAD": library} if library else {})


def run(work, env):
    """Milliseconds, minor faults and MiB of a process and its children: of those, the peak of the largest one. `None` where it fails."""
    child = subprocess.Popen([sys.executable, str(HERE / "work.py"), *work], env=env, stdout=subprocess.PIPE, text=True)
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    child.stdout.close()
    if child.returncode != 0:
        return None
    return float(said.split()[-1]), usage.ru_minflt, usage.ru_maxrss / 1024


def medians(runs):
    return [statistics.median(column) for column in zip(*runs)] if runs and None not in runs else None


def measured(options, who, name, work):
    taken = {one: [] for one in who}
    floor = []
    names = list(who)
    for turn in range(options.runs):
        first = turn % len(names)
        for one in names[first:] + names[:first]:
            print(f"{name}, run {turn + 1} of {options.runs}: {one}        ", end="\r", file=sys.stderr)
            taken[one].append(run(work, environment(options, *who[one])))
        if work[0] == "numpy":
            floor.append(run(("numpy_out", *work[1:]), environment(options, "", {})))
    return {one: medians(runs) for one, runs in taken.items()}, medians(floor)


def main():
    options = arguments()
    who = {one: how for one, how in contenders().items() if not any(word and word in one for word in options.without)}
    chosen = {name: work for name, work in PROGRAMS.items() if any(word in name for word in options.only)}
    print(f"Threads: {options.threads}; medians of {options.runs} runs. `of the fastest` is the time over that of the fastest peer, `of out=` over that of the same into memory that is there,")
    print("`of glibc's` the peak of resident memory over glibc's.\n")
    print("| program | allocator | time | of the fastest | of `out=` | faults | resident | of glibc's |")
    print("|---" * 8 + "|")
    failed = False
    for name, work in chosen.items():
        rows, floor = measured(options, who, name, work)
        peers = [row[0] for one, row in rows.items() if row and one != "tenzor"]
        for one, row in rows.items():
            if row is None:
                print(f"| {name} | {one} | failed | | | | | |")
                failed = True
                continue
            time, faults, resident = row
            fastest = f"{time / min(peers):.2f}" if peers else "–"
            out = f"{time / floor[0]:.2f}" if floor else "–"
            glibc = f"{resident / rows['glibc'][2]:.2f}" if rows.get("glibc") else "–"
            print(f"| {name} | {one} | {time:.2f} ms | {fastest} | {out} | {faults:.0f} | {resident:.0f} MiB | {glibc} |", flush=True)
    sys.exit(1 if failed else 0)


main()
