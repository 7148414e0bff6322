"""Benchmarks of training and answering: `make bench` on a CPU, `make bench-gpu` on a GPU."""

import time

STARTED = time.perf_counter()
"""Before torch is imported, which takes seconds."""
