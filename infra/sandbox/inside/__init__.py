"""Code that runs inside a container; standard library only, imports nothing of ours."""
