"""Measurements that anyone can repeat: ``python -m benchmarks`` (see docs/benchmarks.md)."""
