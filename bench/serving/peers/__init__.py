"""The peers: servers that host the same weights, in an environment of their own (`bench/serving/requirements.txt`)."""
