"""The routes /generate and /interpolate: this process draws images while the client waits."""
