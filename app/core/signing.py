"""Signed statements: ed25519 keys in local files, and in-toto Statements in DSSE envelopes.

    DSSE 1.0 (https://github.com/secure-systems-lab/dsse): protocol.md, envelope.md

A signature covers the payload's type and its bytes (`pre_authentication_encoding`), so nothing is parsed before its
signature was checked. A key id is a hint that anybody can write: every given key is tried, whatever the hint says.
A signature says who vouches for a report. It does not say that the report is right, nor that it is the latest one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.core.render.statement import PREDICATE_TYPE, Statement, sha256_of
from detectors.errors import EnvelopeError, SignatureError, SigningKeyError, SubjectMismatch

PAYLOAD_TYPE = "application/vnd.in-toto+json"

MAX_SIGNATURES = 16
"""Signatures of an envelope that are tried; each costs a computation, and anybody can add one."""

_SHOWN = 80
"""Characters of an envelope's text that an error shows."""


class Signature(BaseModel):
    """One signature and the hint at its key."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    keyid: str = ""
    sig: str


class Envelope(BaseModel):
    """A DSSE envelope as its JSON has it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    payload: str
    payload_type: str = Field(alias="payloadType")
    signatures: tuple[Signature, ...] = ()


class Verified(NamedTuple):
    """A statement whose signature holds, and the id of the key that made it."""

    statement: Statement
    key_id: str


# Keys.


def create_key(path: Path) -> Path:
    """Makes a new signing key: the private one at `path` for its owner only, the public one beside it.

    Returns:
        The path of the public key: `path` with `.pub` before its suffix.

    Raises:
        SigningKeyError: if either file is there already or cannot be written; nothing is overwritten.
    """
    key = Ed25519PrivateKey.generate()
    public = path.parent / f"{path.stem}.pub{path.suffix}"
    private_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public_pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _write_new(path, private_pem, 0o600)
    try:
        _write_new(public, public_pem, 0o644)
    except SigningKeyError:
        path.unlink()
        raise
    return public


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        raise SigningKeyError(
            f"the key file {str(path)!r} cannot be made: {error.strerror}; name one that does not exist yet, in a "
            "directory that you may write to"
        ) from error


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """The signing key in a PEM file.

    Raises:
        SigningKeyError: if the file holds no unencrypted ed25519 private key.
    """
    key = _parsed(path, "private", lambda pem: load_pem_private_key(pem, None))
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "private")
    return key


def load_public_key(path: Path) -> Ed25519PublicKey:
    """The verifying key in a PEM file.

    Raises:
        SigningKeyError: if the file holds no ed25519 public key.
    """
    key = _parsed(path, "public", load_pem_public_key)
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "public")
    return key


def _parsed(path: Path, kind: str, parse: Callable[[bytes], object]) -> object:
    try:
        return parse(_read(path))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError where a password is needed
        raise _no_key(path, kind) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SigningKeyError(f"the key file {str(path)!r} cannot be read: {error.strerror}") from error


def _no_key(path: Path, kind: str) -> SigningKeyError:
    return SigningKeyError(
        f"the key file must hold an ed25519 {kind} key in PEM without a password, {str(path)!r} does not; "
        "`touchstone keys signing-init` makes a pair"
    )


def key_id(key: Ed25519PublicKey) -> str:
    """SHA-256 of the public key's SubjectPublicKeyInfo in DER, in hexadecimal."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


# Envelopes.


def sign(statement: Statement, key: Ed25519PrivateKey) -> str:
    """The statement in a signed DSSE envelope, as JSON."""
    payload = statement.model_dump_json(by_alias=True).encode()
    signature = key.sign(pre_authentication_encoding(PAYLOAD_TYPE, payload))
    envelope = Envelope(
        payload=_encode(payload),
        payloadType=PAYLOAD_TYPE,
        signatures=(Signature(keyid=key_id(key.public_key()), sig=_encode(signature)),),
    )
    return envelope.model_dump_json(by_alias=True)


def verify(envelope: str | bytes, keys: Sequence[Ed25519PublicKey]) -> Verified:
    """The statement in an envelope, once a signature of one of `keys` was found to hold.

    Args:
        envelope: JSON from anywhere.
        keys: the public keys that are trusted, at least one.

    Raises:
        EnvelopeError: if it is no DSSE envelope, or holds no in-toto Statement about a test result.
        SignatureError: if it has no signature, none by a trusted key, or its payload was altered.
    """
    if not keys:
        raise ValueError("`keys` must name at least one trusted key: a signature by anybody proves nothing")
    parsed = _parse(envelope)
    payload = _decode(parsed.payload, "payload")
    signer = _signer(parsed, payload, keys)
    return Verified(_statement(parsed.payload_type, payload), key_id(signer))


def require_subject(statement: Statement, digest: str) -> None:
    """Makes sure that a verified statement is about the model with this digest, of its files or of its content.

    Raises:
        StatementError: if `digest` is no SHA-256.
        SubjectMismatch: if the statement is about another model.
    """
    wanted = sha256_of(digest)
    attested = [subject.digest.get("sha256", "") for subject in statement.subject]
    if wanted not in attested:
        raise SubjectMismatch(
            f"the statement is about the model with digests {', '.join(map(ascii, attested))}, wanted {wanted}; "
            "give the statement about this model, or scan it"
        )


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What DSSE signs: type and payload, each behind its length, so that no two pairs are the same bytes."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def _parse(envelope: str | bytes) -> Envelope:
    try:
        return Envelope.model_validate_json(envelope)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, problem["loc"])) or "the file"
        raise EnvelopeError(
            f"the envelope must be a DSSE envelope in JSON, with payload, payloadType and signatures; at "
            f"{ascii(place)[:_SHOWN]}: {problem['msg']}"
        ) from error


def _signer(envelope: Envelope, payload: bytes, keys: Sequence[Ed25519PublicKey]) -> Ed25519PublicKey:
    signed = pre_authentication_encoding(envelope.payload_type, payload)
    for signature in envelope.signatures[:MAX_SIGNATURES]:
        raw = _decode(signature.sig, "signature")
        for key in keys:
            if _holds(key, raw, signed):
                return key
    raise SignatureError(_unsigned(envelope, keys))


def _unsigned(envelope: Envelope, keys: Sequence[Ed25519PublicKey]) -> str:
    """Why no signature holds: what the hints say decides between a wrong key and an altered payload."""
    trusted = [key_id(key) for key in keys]
    hinted = [signature.keyid for signature in envelope.signatures]
    if not hinted:
        return "the envelope has no signature; give one that `touchstone sign` wrote"
    if set(hinted) & set(trusted):
        return "the payload or its type was altered after it was signed: the signature of the given key does not hold"
    names = ", ".join(ascii(name)[:_SHOWN] for name in hinted[:MAX_SIGNATURES])
    return (
        f"no signature is by a given key: the envelope names the keys {names}, given are {', '.join(trusted)}; "
        "give the public key of whoever signed"
    )


def _holds(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def _statement(payload_type: str, payload: bytes) -> Statement:
    if payload_type != PAYLOAD_TYPE:
        raise EnvelopeError(f"the payload must be of type {PAYLOAD_TYPE}, it is of type {ascii(payload_type)[:_SHOWN]}")
    try:
        return Statement.model_validate_json(payload)
    except ValidationError as error:
        raise EnvelopeError(
            f"the payload must be an in-toto Statement with the predicate {PREDICATE_TYPE}: "
            f"{error.errors(include_url=False, include_context=False, include_input=False)[0]['msg']}"
        ) from error


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str, what: str) -> bytes:
    """Base64 in either alphabet, as DSSE demands of verifiers."""
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnvelopeError(f"the {what} of the envelope must be base64: {error}") from error
