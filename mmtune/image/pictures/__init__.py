"""Image files without a model: decoding, aspect buckets, near-copies, grids and PNG metadata."""
