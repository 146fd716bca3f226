"""Drawing images: start noise, steps, guidance, thresholding, interpolation and scores."""
