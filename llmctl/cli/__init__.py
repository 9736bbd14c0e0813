"""What people type and see. Typer and Rich live here and nowhere else."""
