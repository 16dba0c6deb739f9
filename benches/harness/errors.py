"""Why a figure could not be measured."""


class BenchError(Exception):
    """A measurement that can't be trusted or can't be made; its message says why, and what to do."""
