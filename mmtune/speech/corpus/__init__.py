"""Speech data: read, check and import recordings; read term lists; make additional rows."""
