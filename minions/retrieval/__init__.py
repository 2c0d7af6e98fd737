"""First-stage ranking without a model: words, a lexicon of what is asked for, and structure."""

from minions.retrieval.rank import DocumentIndex, Ranked, Weights, rank_chunks

__all__ = ["DocumentIndex", "Ranked", "Weights", "rank_chunks"]
