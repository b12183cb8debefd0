"""What connects the trainer with the log, the disk and the process that fits."""
