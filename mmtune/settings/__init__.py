"""How a setting is declared, named, read and explained; the settings themselves: config.py."""
