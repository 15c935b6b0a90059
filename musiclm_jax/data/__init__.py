"""Host-side numpy: sources, text, token store, batches."""
