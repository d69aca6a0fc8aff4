"""Base against adapter on speech: items, measures, extra conditions."""
