"""What this machine offers: devices, threads, memory, a compiler."""
