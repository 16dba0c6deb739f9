"""Reports: on a screen, as a file, made again from a run's log."""
