"""Speech data: reading, checking, term lists, importing, and rows that are made."""
