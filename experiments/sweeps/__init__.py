"""Running published tables: rows as jobs, the processes that run them, states and plans."""
