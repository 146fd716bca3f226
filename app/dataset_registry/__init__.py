"""The routes /datasets: register labelled images by upload or by path."""
