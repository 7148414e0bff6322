"""Benchmarks of training and answering: `make bench` on a CPU, `make bench-gpu` on a GPU."""
