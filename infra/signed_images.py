"""Signs the list of images by digest that `infra/mirror` wrote, and turns a signed list into values of the chart.

python -m infra.signed_images sign build/images.digests       # the key is that of promotions, or one of its own
python -m infra.signed_images values build/images.digests.signed --trusted trusted-keys.json >images.yaml
helm upgrade ... --values images.yaml                          # the chart then runs these digests alone

Nothing is fetched: it works on a site without internet, where a registry has no signatures of its own.
"""

import argparse
import base64
import json
import re
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature

from echoplane.errors import ConfigError, EchoplaneError
from echoplane.files import write_atomically
from echoplane.signing import SigningKey, TrustedKeys, read_signing_key, read_trusted_keys

CONTEXT = b"echoplane images 1\n"
"""Comes before what is signed, so that no signature of a promotion is one of images."""
TASK = "images"
"""What a key's list of tasks must name, unless it may sign for all."""
LINE = re.compile(r"(?P<image>\S+) (?P<copy>\S+)@(?P<digest>sha256:[0-9a-f]{64})")


class UntrustedImages(EchoplaneError):
    """Raised if a list of images is not signed by a trusted key."""


def signed(content: str, key: SigningKey) -> str:
    """Returns the list with its signature. Raises ConfigError if a line is not an image and its copy by digest."""
    _copies(content)
    signature = base64.b64encode(key.private.sign(CONTEXT + content.encode())).decode()
    return json.dumps({"images": content, "key": key.id, "signature": signature}, indent=1) + "\n"


def verified(text: str, trusted: TrustedKeys) -> str:
    """Returns the list. Raises UntrustedImages if no trusted key has signed it as it is."""
    try:
        stated = json.loads(text)
        content, key_id, signature = (
            stated["images"],
            stated["key"],
            base64.b64decode(stated["signature"], validate=True),
        )
    except (ValueError, KeyError, TypeError):
        raise UntrustedImages("this is no signed list of images; `sign` makes one.") from None
    key = trusted.by_id(key_id)
    if key is None or key_id in trusted.revoked:
        raise UntrustedImages(f"key {key_id[:16]!r} is not trusted here, or is revoked.")
    if key.tasks and TASK not in key.tasks:
        raise UntrustedImages(f"key {key.id} may not sign images.")
    try:
        key.verifier().verify(signature, CONTEXT + content.encode())
    except InvalidSignature:
        raise UntrustedImages("the signature is wrong: the list was changed after signing.") from None
    return content


def values(content: str) -> str:
    """Returns the chart's values for the images of a list, as YAML, which JSON is.

    Raises ConfigError if the list has no image of ours, or they are in several registries.
    """
    copies = {image: match for image, match in _copies(content).items() if image.startswith("echoplane-")}
    names = {match["copy"].rpartition("/")[2]: match for match in copies.values()}
    registries = {match["copy"].removesuffix(name) for name, match in names.items()}
    if len(registries) != 1:
        raise ConfigError(f"images of echoplane are expected in one registry; the list has them in {len(registries)}.")
    chosen = {
        "imageRegistry": registries.pop(),
        "requireDigests": True,
        "imageDigests": {name: match["digest"] for name, match in sorted(names.items())},
    }
    for image, match in _copies(content).items():
        if "/minio/minio:" in image:
            chosen["minio"] = {"image": f"{match['copy']}@{match['digest']}"}
    return json.dumps(chosen, indent=1) + "\n"


def _copies(content: str) -> "dict[str, re.Match[str]]":
    found = {}
    for number, line in enumerate(content.splitlines(), 1):
        match = LINE.fullmatch(line)
        if match is None:
            raise ConfigError(f"line {number} is not IMAGE COPY@sha256:DIGEST; give the file that infra/mirror wrote.")
        found[match["image"]] = match
    if not found:
        raise ConfigError("the list holds no image; give the file that infra/mirror wrote.")
    return found


def main() -> int:
    parser = argparse.ArgumentParser("python -m infra.signed_images", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("action", choices=["sign", "values"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--trusted", default="", help="file of trusted public keys; without it, the user's own")
    given = parser.parse_args()
    try:
        if given.action == "values":
            trusted = read_trusted_keys(given.trusted)
            print(values(verified(given.file.read_text(), trusted)), end="")
            return 0
        key = read_signing_key()
        if key is None:
            raise ConfigError("there is no signing key; make one with `echoplane keys make`.")
        target = given.file.with_name(f"{given.file.name}.signed")
        write_atomically(target, signed(given.file.read_text(), key).encode())
        print(target)
    except (EchoplaneError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
