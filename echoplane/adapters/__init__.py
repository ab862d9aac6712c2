"""The only modules that import ray, mlflow and kubernetes."""
