"""Metrics: generated images judged against a data set's, in the features of a network trained on ImageNet."""
