"""The experiment: strategies against each other on the grid of sensors and failure modes, measured and summed up."""
