"""What one replica tells of its imports, the others know; for a while, and no longer."""
