"""Sound without a model: reading files, channels, signal processing, augmentation."""
