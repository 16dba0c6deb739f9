"""Other clients beside ours: installed apart, run in turns against the same server, their whole cost counted."""
