"""The control plane: what every function shares. Adapters speak to Google Cloud; nothing here knows where it runs."""
