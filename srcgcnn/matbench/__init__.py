"""One fold of matbench: its split, training on it, and the record in matbench's own format."""
