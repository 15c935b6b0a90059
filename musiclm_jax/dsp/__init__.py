"""Signal mathematics: pure, float32, without parameters."""
