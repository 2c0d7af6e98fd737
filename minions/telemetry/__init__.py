"""What the service tells of itself: metrics, log lines, traces. Never a document, never a key."""
