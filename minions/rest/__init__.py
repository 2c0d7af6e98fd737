"""The REST face: documents in, questions asked and followed, replies and receipts out."""

from minions.rest.app import create_app

__all__ = ["create_app"]
