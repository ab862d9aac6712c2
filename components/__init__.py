"""Kubeflow components, one folder per stage: each is a thin wrapper of the stage, without logic of its own."""
