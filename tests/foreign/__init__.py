"""Files from somebody else: run folders, adapters and data that an attacker made."""
