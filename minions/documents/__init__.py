"""Documents: what a file is, its text with exact offsets, and every way it can fail to be read."""

from minions.documents.ingest import file_name, read_document
from minions.documents.model import Chunk, Document, Page
from minions.documents.reading import ReadLimits
from minions.documents.sniff import Kind

__all__ = ["Chunk", "Document", "Kind", "Page", "ReadLimits", "file_name", "read_document"]
