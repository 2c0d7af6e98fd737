"""One file per revision. A released one is never changed; a new one follows it."""
