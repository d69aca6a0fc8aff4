"""Pictures without a model: pixels, aspect buckets, near-copies, grids."""
