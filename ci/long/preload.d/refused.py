"""For a system that refuses calls, as `refused.c`. What is refused is an exception, and is told by the exit code."""

import sys

try:
    rows = [bytes([n % 251]) * (n * 37 % 100000 + 1) for n in range(1500)]
    texts = {i: str(i) * 50 for i in range(10000)}
    large = bytearray()
    for _ in range(30):
        large += bytes(1 << 18)
except MemoryError:
    sys.exit(2)
if any(len(row) != n * 37 % 100000 + 1 or row[0] != n % 251 or row[-1] != n % 251 for n, row in enumerate(rows)):
    sys.exit(5)
if any(text != str(i) * 50 for i, text in texts.items()) or any(large):
    sys.exit(5)
print("fine")
