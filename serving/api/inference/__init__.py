"""Read a file, choose its task, and answer it with the model of that task."""
