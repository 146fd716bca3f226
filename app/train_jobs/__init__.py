"""The routes /train-jobs: queue, follow and stop training."""
