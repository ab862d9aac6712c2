"""The bundle that a training starts from; the stages `dataset` and `train` are given the same one."""

from pydantic import BaseModel, ConfigDict


class Start(BaseModel):
    """A bundle whose weights, network and preparation of the input are taken over."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    bundle: str
    """Folder of the bundle, such as models/NAME."""
    knows_no_patient: bool = False
    """True states that the bundle has learnt from no patient of the dataset, as is true of shipped ones. Otherwise it
    must have been trained on the dataset's own split."""
