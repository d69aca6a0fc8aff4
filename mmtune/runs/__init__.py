"""From a recipe to a finished run: settings, the run's folder, the pipeline."""
