"""Where workspaces run: one contract (`base`), one module per provider; no provider knows another."""
