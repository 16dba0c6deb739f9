"""A batch over several nodes, of which one may be ten times faster."""
