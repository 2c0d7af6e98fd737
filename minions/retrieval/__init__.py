"""First-stage ranking without a model: words, the lexicon of accounts, and a document's structure."""

from minions.retrieval.rank import DocumentIndex, Ranked, Weights, rank_chunks

__all__ = ["DocumentIndex", "Ranked", "Weights", "rank_chunks"]
