"""Everything durable: documents, runs with their journal, ledger, egress record, traces."""

from minions.errors import StoreUnavailable
from minions.store.memory import MemoryStore
from minions.store.model import Store
from minions.store.sql import SqlStore, open_store
from minions.store.summary import DocumentSummary

__all__ = [
    "DocumentSummary",
    "MemoryStore",
    "SqlStore",
    "Store",
    "StoreUnavailable",
    "open_store",
]
