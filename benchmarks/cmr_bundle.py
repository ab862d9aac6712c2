"""A trained cine MR network as a bundle: for the tests of a fold, or to be shipped with its card."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from benchmarks import sunnybrook
from echoplane import __version__
from echoplane.bundle import Code, Contents, Golden, InputShape, seal, write_golden
from echoplane.bundle.bundle import GOLDEN_SEED
from echoplane.bundle.export import check_parity, to_onnx
from echoplane.bundle.spec import CARD, MODEL, WEIGHTS, labels_of
from echoplane.stages.stage import package_digest
from echoplane.tasks import cmr_segmentation as task
from echoplane.tasks.cmr_segmentation import learning
from echoplane.training.checkpoint import State

OVERLAPS = ("dice/lv", "dice/myocardium", "dice/rv", "dice/la/2-chamber", "dice/la/4-chamber", "dice/ra")


def sealed(
    state: State, network: learning.Network, folder: Path, *, card: str, data_digest: str, abstain_below: float
) -> Path:
    """A bundle of the state's weights in `folder`, ONNX checked against torch.

    Kernels are rounded to 16 bits and stored so: half the bundle's size, and torch and ONNX hold the same numbers.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    module = learning.network(network).eval()
    weights = {name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in state.weights.items()}
    module.load_state_dict(weights)
    preprocessing = task.Preprocessing()
    batch = task.preprocess(task.example(GOLDEN_SEED), preprocessing).batch
    with torch.inference_mode():
        golden = Golden(batch, *(tensor.numpy() for tensor in module(torch.from_numpy(batch))))
    other = np.pad(batch, ((0, 0), (0, 32), (0, 16)))  # not the sides that the graph was traced with
    (folder / MODEL).write_bytes(in_halves(to_onnx(module, batch, free_sides=True, norms_apart=True)))
    check_parity(
        module, onnxruntime.InferenceSession(folder / MODEL, providers=["CPUExecutionProvider"]), [batch, other]
    )
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    write_golden(folder, golden)
    (folder / CARD).write_text(card)
    seal(
        folder,
        Contents(
            task=task.NAME,
            labels=labels_of(task.NAME),
            preprocessing=preprocessing.model_dump(mode="json"),
            network=network.model_dump(mode="json"),
            input=InputShape(shape=batch.shape[1:]),
            thresholds={"abstain_below": abstain_below},
            data_digest=data_digest,
            split_id=hashlib.sha256(sunnybrook.SALT.encode()).hexdigest()[:16],
            code=Code(version=__version__, package_digest=package_digest()),
        ),
    )
    return folder


def in_halves(model: bytes) -> bytes:
    """The same model, with those kernels in 16 bits that 16 bits hold exactly; they are cast back when it is loaded."""
    proto = onnx.load_from_string(model)
    kept, casts = [], []
    for each in proto.graph.initializer:
        value = numpy_helper.to_array(each)
        if value.ndim > 1 and value.dtype == np.float32 and np.array_equal(value, value.astype(np.float16)):
            casts.append(helper.make_node("Cast", [f"{each.name}/16"], [each.name], to=TensorProto.FLOAT))
            each = numpy_helper.from_array(value.astype(np.float16), f"{each.name}/16")
        kept.append(each)
    nodes = [*casts, *proto.graph.node]
    del proto.graph.initializer[:], proto.graph.node[:]
    proto.graph.initializer.extend(kept)
    proto.graph.node.extend(nodes)
    return proto.SerializeToString()


def card(made: list[str], real: list[str], phantoms: dict[str, Any]) -> str:
    """The model card, with the lines about real patients as they are. It holds no date, so that the same model has the
    same bundle id."""
    lines = [
        "# cmr-segmentation",
        "",
        "Research use, not a medical device: no answer of this model may guide care.",
        "",
        "Masks of the ventricles on short axis cine MR, and of the atria on long axis cines, after Bai et al.",
        "(arXiv 1710.09289).",
        "",
        "## What it was made from",
        "",
        *made,
        "",
        "## Figures",
        "",
        *real,
        *(line for name, found in phantoms.items() for line in _synthetic(name, found)),
        "",
        "## Limits",
        "",
        "Real patients taught it the LV cavity alone: myocardium, right ventricle and atria were learnt from synthetic",
        "hearts and were never measured on real ones. Thick hearts with a small systolic cavity are its weakest point.",
        "Real pictures were of one hospital, 256 x 256, short axis. Late enhancement, perfusion, congenital disease",
        "and children are unknown to it. A flagged answer wants a look before its figures are used; an answer without",
        "a flag may still be wrong.",
        "",
    ]
    return "\n".join(lines)


def real_lines(real: dict[str, Any]) -> list[str]:
    """The card's lines about real patients: all, and those whose contours are right."""
    return [
        *_real(real["summary"], "all of them"),
        *_real(real["drawn_right"], "without SC-N-06, whose contours lie beside the heart"),
    ]


def real_lines_of(bundle: Path) -> list[str]:
    """Returns the lines about real patients from a bundle's card, as of a model before its third training."""
    paragraphs = (bundle / CARD).read_text().split("\n\n")
    kept = [each for each in paragraphs if "real patients, " in each and "Dice" in each]
    if not kept:
        raise ValueError(f"the card in {bundle} has no figures of real patients.")
    before = "Before the third training; after it, no real patient was left that the model had not seen:"
    return ["\n\n".join([before, *kept]), ""]


def _real(found: dict[str, Any], which: str) -> list[str]:
    return [
        f"{found['patients']} real patients, {which}, each answered by a model of this recipe that had not seen it:",
        f"Dice of the LV cavity {found['dice_ed']:.3f} at end diastole, {found['dice_es']:.3f} at end systole;",
        f"ejection fraction off by {found['ef_percent']['mae']:.1f} points; {found['failed_and_flagged']} of "
        f"{found['failed']} under 0.80 flagged, {found['good_but_flagged']} of {found['good']} from 0.90.",
        "",
    ]


def _synthetic(name: str, found: dict[str, Any]) -> list[str]:
    overlaps = ", ".join(f"{key[5:]} {found[key]:.3f}" for key in found if key in OVERLAPS)
    return [
        f"{found['patients']} unseen synthetic patients, field {name} in training: Dice {overlaps};",
        f"mean absolute error LVEDV {found['error/lvedv_ml']['mae']:.1f} mL, "
        f"LVEF {found['error/lvef_percent']['mae']:.1f} points, mass {found['error/lvm_g']['mae']:.1f} g.",
        "",
    ]
