"""How several processes become one run, and whether they can."""
