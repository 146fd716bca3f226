"""The diffusion process: the network, the noise schedule, what the network predicts, and the variance of a step."""
