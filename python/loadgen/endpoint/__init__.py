"""Request bodies for each API that an endpoint speaks."""

from loadgen.endpoint.body import Api, render

__all__ = ["Api", "render"]
