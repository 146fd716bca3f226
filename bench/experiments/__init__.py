"""The experiments of docs/results.md: `python -m bench.experiments`, then `python -m bench.experiments.report`."""
