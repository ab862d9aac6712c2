"""Signed promotions (Ed25519): `promote` signs which bundle serves a task; whoever loads a bundle verifies.

    signed = make_statement(read_signing_key(), action="promotion", task=..., ...)
    statement = verify(signed, trusted, task=..., alias="champion", bundle_id=...)
    sequence_memory.accept(statement)    # refuses an older statement than the last one seen

A registry's tags and aliases are only a way to find a model; the statement decides whether it may be loaded.
"""

from echoplane.signing.keys import (
    SIGNING_KEY,
    TRUSTED_KEYS,
    PublicKey,
    SigningKey,
    TrustedKeys,
    ensure_own_keys,
    new_signing_key,
    own_folder,
    read_signing_key,
    read_trusted_keys,
    revoke,
    trust,
)
from echoplane.signing.statement import Action, Alias, SequenceMemory, Statement, make_statement, sign, verify

__all__ = [
    "SIGNING_KEY",
    "TRUSTED_KEYS",
    "Action",
    "Alias",
    "PublicKey",
    "SequenceMemory",
    "SigningKey",
    "Statement",
    "TrustedKeys",
    "ensure_own_keys",
    "make_statement",
    "new_signing_key",
    "own_folder",
    "read_signing_key",
    "read_trusted_keys",
    "revoke",
    "sign",
    "trust",
    "verify",
]
