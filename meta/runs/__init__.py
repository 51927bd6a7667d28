"""The life of a run: its loop, directory, checkpoints, loggers, processes and signals."""
