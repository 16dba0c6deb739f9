"""Dispatch: many calls at once, as fast as a service allows, at a bounded extra cost."""
