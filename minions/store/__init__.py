"""Everything durable: documents, runs with their journal, ledger, egress record, traces."""

from minions.errors import StoreUnavailable
from minions.store.memory import MemoryStore
from minions.store.model import LOCAL_OWNER, Store
from minions.store.service import ServiceStore
from minions.store.sql import SqlStore, open_store
from minions.store.summary import DocumentSummary

__all__ = [
    "LOCAL_OWNER",
    "DocumentSummary",
    "MemoryStore",
    "ServiceStore",
    "SqlStore",
    "Store",
    "StoreUnavailable",
    "open_store",
]
