"""Who computes what is missing: this process, workers, Ray, Slurm; several processes for one
run."""
