"""The whole cascade trained on a laptop, and what it has learned."""
