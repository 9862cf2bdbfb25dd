"""Firestore on SQLite: google.firestore.v1 for the official clients, held to the official emulator's answers."""

from .service import FirestoreEmulator

__all__ = ["FirestoreEmulator"]
