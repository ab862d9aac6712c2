"""Writes a model repository for Triton from bundles: `python -m serving.triton.repository REPOSITORY BUNDLE ...`.

The runtime `triton` needs none, since it sends its model to the server; a repository is for servers that other clients
use too, or that may not be told to load models.
"""

import argparse
import sys
from pathlib import Path

from echoplane.bundle import read
from echoplane.errors import ConfigError, EchoplaneError, explained
from echoplane.files import write_atomically
from echoplane.runtimes import onnx_model, triton_model


def write_model(repository: Path, bundle_folder: Path, deployment: triton_model.Deployment) -> Path:
    """Adds the model of a bundle and returns its folder. Raises BundleError if the bundle is refused.

    `config.pbtxt` is written last, and a server loads no folder without it.
    """
    model = onnx_model(read(bundle_folder))
    folder = repository / triton_model.model_name(model)
    for path, content in triton_model.files_of(model, deployment.backend).items():
        write_atomically(folder / path, content)
    write_atomically(folder / "config.pbtxt", config_text(model, deployment).encode())
    return folder


def config_text(model: bytes, deployment: triton_model.Deployment) -> str:
    """Returns `config.pbtxt`, written by protobuf from Triton's own definition, so that no field is misspelt."""
    try:
        from google.protobuf import json_format, text_format
        from tritonclient.grpc.model_config_pb2 import ModelConfig
    except ImportError:
        raise ConfigError("the package tritonclient[grpc] is missing; install requirements/triton.txt.") from None
    config = json_format.ParseDict(triton_model.config_of(model, deployment), ModelConfig())
    return text_format.MessageToString(config)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m serving.triton.repository", description=__doc__)
    parser.add_argument("repository", type=Path, help="folder of the repository")
    parser.add_argument("bundles", type=Path, nargs="+", help="bundle folders")
    parser.add_argument("--backend", choices=triton_model.BACKENDS, default="tensorrt")
    parser.add_argument("--instances", type=int, default=1, help="copies of each model. Default: 1")
    parser.add_argument("--max-delay-us", type=int, default=2000, help="wait for a fuller batch. Default: 2000")
    args = parser.parse_args(arguments)
    deployment = triton_model.Deployment(args.backend, args.instances, args.max_delay_us)
    try:
        for folder in args.bundles:
            sys.stdout.write(f"{write_model(args.repository, folder, deployment)}\n")
    except (EchoplaneError, OSError) as error:
        sys.stderr.write(f"triton repository: {explained(error)}\n")
        return error.exit_code if isinstance(error, EchoplaneError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
