"""Builds and tests for aarch64 on an x86-64 machine: `make test-arm`."""
