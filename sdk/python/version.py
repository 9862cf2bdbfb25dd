"""The version of the SDK: what the distribution is called by and what the User-Agent says."""

__version__ = "3.0.0"
