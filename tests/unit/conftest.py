"""Warnings that the product's own modules cause are errors in unit tests."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    for package in ("echoplane", "serving", "pipelines", "components", "demo"):
        config.addinivalue_line("filterwarnings", f"error:::{package}")
