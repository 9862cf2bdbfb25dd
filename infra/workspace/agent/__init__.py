"""The workspace agent: a small ASGI server inside every session that runs commands for whoever holds a ticket.

Started as `python -m agent`; imports nothing of the rest of the project.
"""

VERSION = "3.0.0"
