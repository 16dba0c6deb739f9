"""What `benches/run.py` measures with: child processes, servers, clients, and one file per family of marks."""
