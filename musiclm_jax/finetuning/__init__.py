"""A bundle goes on learning from a folder of songs: before, after, report."""
