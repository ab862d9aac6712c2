"""Kubeflow components, one folder a stage: a door to the stage, without logic of its own."""
