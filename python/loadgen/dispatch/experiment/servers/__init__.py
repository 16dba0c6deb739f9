"""The three MCP tool servers of the case, each run by its name over stdio: sensors, failure_modes, grid."""
