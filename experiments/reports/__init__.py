"""Reports of published tables: what was measured, set beside what is printed."""
