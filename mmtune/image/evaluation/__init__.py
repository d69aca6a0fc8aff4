"""Base against adapter on images: measures, copies, strengths."""
