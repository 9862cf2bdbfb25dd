"""Firestore on SQLite: google.firestore.v1 for the official clients, held to the official emulator's answers."""

from .declared import Declared
from .service import FirestoreEmulator

__all__ = ["Declared", "FirestoreEmulator"]
