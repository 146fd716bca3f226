"""Metrics: measures of generated images, most of them against a data set's in features of an ImageNet network."""
