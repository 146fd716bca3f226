"""The machine's devices, threads, memory and compiler."""
