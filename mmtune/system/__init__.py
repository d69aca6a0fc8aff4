"""What every part needs of the machine: files, hashes, memory, number formats, processes."""
