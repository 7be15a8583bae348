"""What a sweep is: its definition, the plan, the search, the cost. Nothing here imports torch or Ray."""
