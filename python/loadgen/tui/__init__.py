"""The full view of a run that goes on: the same for the run's own terminal and for ``loadgen top`` in another."""
