"""The experiments behind `docs/results.md`: `python -m bench.experiments run NAME`, then `... report`."""
