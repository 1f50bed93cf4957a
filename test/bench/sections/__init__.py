"""One module for each section of the benchmarks: run(bench) -> report.Section."""
