"""A brand's guide: its file, its rules, and which pictures and captions keep them."""
