"""The frozen part of a model below the adapter (the prefix): its stages and their cache."""
