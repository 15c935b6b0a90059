"""MuLan: text and audio in one space, and its RVQ (2208.12415)."""
