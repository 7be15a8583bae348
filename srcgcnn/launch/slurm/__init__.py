"""Everything that speaks to SLURM."""
