"""Compare base and adapter on speech: items, measures and extra test conditions."""
