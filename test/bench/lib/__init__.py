"""What the sections of the benchmarks have in common."""
