"""The routes /generate and /interpolate: images drawn by this process while the client waits."""
