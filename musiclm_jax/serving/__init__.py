"""The web page: what it asks for, who plays it, what it looks like."""
