"""Audio without a model: read files, judge channels and signals, augment clips."""
