"""What a person reads of an error that nobody raised on purpose."""

import errno
import os

import pytest

from echoplane.errors import RegistryUnavailable, explained


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_e16_a_full_disk_is_named_though_a_library_wrapped_the_error(number: int) -> None:
    try:
        try:
            raise OSError(number, os.strerror(number))
        except OSError as full:
            raise OSError("while writing an element") from full  # pydicom adds the element and drops the number
    except OSError as error:
        said = explained(error)
    assert "(disk full; OSError at test_errors.py:" in said
    assert "element" not in said, "a library's own message may quote a file"


def test_e16_an_unreachable_mlflow_is_named_by_its_address_without_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    from echoplane.adapters.registry import Registry, answering

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # MLflow writes it; it is restored after the test
    try:
        Registry("http://someone:secret@127.0.0.1:9")
        with pytest.raises(RegistryUnavailable) as caught, answering():
            mlflow.MlflowClient().search_registered_models()
    finally:
        mlflow.set_tracking_uri(None)
    assert str(caught.value) == "MLflow at 127.0.0.1:9 can't be reached."
