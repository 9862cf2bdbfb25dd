"""What an image runs: installed as /opt/onmemos/bin/NAME, without .py, by infra/workspace/assemble.py."""
