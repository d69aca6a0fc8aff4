"""Exit codes of the commands."""

FINDINGS = 1  # a check found something, an export isn't the same, a gate is shut
ERROR = 2  # a command could not do all of its work
INTERRUPTED = 130  # by Ctrl-C: the shell's 128 + SIGINT
