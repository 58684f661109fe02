"""Signatures against securesystemslib, a second implementation, and against every way to get them wrong."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope as TheirEnvelope
from securesystemslib.exceptions import VerificationError as TheirVerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from app.core import signing
from app.core.render.statement import Statement, build_statement
from app.core.signing import PAYLOAD_TYPE, key_id, pre_authentication_encoding, require_subject, sign, verify
from detectors.errors import EnvelopeError, SignatureError, SigningKeyError, StatementError, SubjectMismatch
from tests.render import sample

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
PUBLIC = KEY.public_key()
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def statement() -> Statement:
    return build_statement(*sample.strong())


@pytest.fixture(scope="module")
def envelope(statement: Statement) -> str:
    return sign(statement, KEY)


def changed(envelope: str, change: Change) -> str:
    fields = json.loads(envelope)
    change(fields)
    return json.dumps(fields)


def sealed(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> str:
    """An envelope around anything, soundly signed."""
    signature = KEY.sign(pre_authentication_encoding(payload_type, payload))
    fields = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": payload_type,
        "signatures": [{"keyid": key_id(PUBLIC), "sig": base64.b64encode(signature).decode()}],
    }
    return json.dumps(fields)


def their_key(public: Ed25519PublicKey) -> SSlibKey:
    return SSlibKey.from_crypto(public, keyid=key_id(public))


# What is signed can be verified, by others too.


def test_a_statement_survives_signing(statement: Statement, envelope: str) -> None:
    assert verify(envelope, [PUBLIC]) == (statement, key_id(PUBLIC))
    assert verify(envelope.encode(), [OTHER.public_key(), PUBLIC]).key_id == key_id(PUBLIC)


def test_a_second_implementation_accepts_our_envelope(statement: Statement, envelope: str) -> None:
    theirs = TheirEnvelope.from_dict(json.loads(envelope))
    assert list(theirs.verify([their_key(PUBLIC)], threshold=1)) == [key_id(PUBLIC)]
    assert Statement.model_validate_json(theirs.payload) == statement
    with pytest.raises(TheirVerificationError):
        theirs.verify([their_key(OTHER.public_key())], threshold=1)


def test_we_accept_the_envelope_of_a_second_implementation(statement: Statement) -> None:
    theirs = TheirEnvelope(statement.model_dump_json(by_alias=True).encode(), PAYLOAD_TYPE, {})
    theirs.sign(CryptoSigner(KEY, their_key(PUBLIC)))
    assert verify(json.dumps(theirs.to_dict()), [PUBLIC]).statement == statement


@given(payload_type=st.text(max_size=20), payload=st.binary(max_size=40))
def test_the_encoding_is_that_of_a_second_implementation(payload_type: str, payload: bytes) -> None:
    assert pre_authentication_encoding(payload_type, payload) == TheirEnvelope(payload, payload_type, {}).pae()


def test_the_encoding_of_the_specification() -> None:
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_either_alphabet_of_base64_is_read(statement: Statement) -> None:
    payload = json.dumps(json.loads(statement.model_dump_json(by_alias=True)) | {"x": "\u07ff?>~"}, ensure_ascii=False)
    safe = changed(
        sealed(payload.encode()),
        lambda fields: fields.update(payload=base64.urlsafe_b64encode(payload.encode()).decode()),
    )
    assert set("-_") & set(json.loads(safe)["payload"])
    assert verify(safe, [PUBLIC]).statement == statement


# What must not be accepted.


@pytest.mark.parametrize("keyid", ["", "forged", key_id(PUBLIC)])
def test_the_hint_decides_nothing(envelope: str, keyid: str) -> None:
    hinted = changed(envelope, lambda fields: fields["signatures"][0].update(keyid=keyid))
    assert verify(hinted, [PUBLIC]).key_id == key_id(PUBLIC)
    with pytest.raises(SignatureError):
        verify(hinted, [OTHER.public_key()])


def test_another_key_is_named_beside_the_one_given(envelope: str) -> None:
    with pytest.raises(SignatureError, match="no signature is by a given key") as failed:
        verify(envelope, [OTHER.public_key()])
    assert key_id(PUBLIC) in str(failed.value)
    assert key_id(OTHER.public_key()) in str(failed.value)


def alter_payload(fields: dict[str, Any]) -> None:
    payload = base64.b64decode(fields["payload"]).replace(b"FAILED", b"PASSED")
    fields["payload"] = base64.b64encode(payload).decode()


@pytest.mark.parametrize(
    "change",
    [alter_payload, lambda fields: fields.update(payloadType="application/vnd.in-toto+json2")],
    ids=["payload", "type"],
)
def test_an_altered_payload_or_type_is_noticed(envelope: str, change: Change) -> None:
    with pytest.raises(SignatureError, match="altered after it was signed"):
        verify(changed(envelope, change), [PUBLIC])


@given(place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_every_single_bit_of_the_payload_is_covered(envelope: str, place: int, bit: int) -> None:
    fields = json.loads(envelope)
    payload = bytearray(base64.b64decode(fields["payload"]))
    payload[place % len(payload)] ^= 1 << bit
    fields["payload"] = base64.b64encode(payload).decode()
    with pytest.raises(SignatureError):
        verify(json.dumps(fields), [PUBLIC])


@pytest.mark.parametrize(
    "change",
    [lambda fields: fields.pop("signatures"), lambda fields: fields.update(signatures=[])],
    ids=["missing", "empty"],
)
def test_an_envelope_without_a_signature_is_refused(envelope: str, change: Change) -> None:
    with pytest.raises(SignatureError, match="has no signature"):
        verify(changed(envelope, change), [PUBLIC])


def test_a_sound_signature_among_others_is_found_within_a_bound(envelope: str) -> None:
    def crowd(count: int) -> Change:
        foreign = {"keyid": "x", "sig": base64.b64encode(bytes(64)).decode()}
        return lambda fields: fields.update(signatures=[foreign] * count + fields["signatures"])

    assert verify(changed(envelope, crowd(signing.MAX_SIGNATURES - 1)), [PUBLIC]).key_id == key_id(PUBLIC)
    with pytest.raises(SignatureError):
        verify(changed(envelope, crowd(signing.MAX_SIGNATURES)), [PUBLIC])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Invalid JSON"),
        ("not json", "Invalid JSON"),
        ("[]", "at 'the file'"),
        ("{}", "at 'payload': Field required"),
        ('{"payload": "e30=", "payloadType": "x", "signatures": [{"keyid": "x"}]}', "at 'signatures.0.sig'"),
        ('{"payload": "e30=", "payloadType": "x", "signatures": "none"}', "at 'signatures'"),
        ('{"payload": "*", "payloadType": "x", "signatures": []}', "the payload of the envelope must be base64"),
        ('{"payload": "", "payloadType": "x", "signatures": [{"sig": "é"}]}', "the signature of the envelope"),
    ],
)
def test_what_is_no_envelope_is_explained(text: str, says: str) -> None:
    with pytest.raises(EnvelopeError) as failed:
        verify(text, [PUBLIC])
    assert says in str(failed.value)


def test_a_payload_of_another_type_is_refused_though_it_is_signed(statement: Statement) -> None:
    payload = statement.model_dump_json(by_alias=True).encode()
    with pytest.raises(EnvelopeError, match="the payload must be of type"):
        verify(sealed(payload, "application/json"), [PUBLIC])


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.update(_type="https://in-toto.io/Statement/v0.1"),
        lambda fields: fields.update(predicateType="https://slsa.dev/provenance/v1"),
        lambda fields: fields.update(subject=[]),
        lambda fields: fields["subject"][0].update(digest={}),
        lambda fields: fields["predicate"].update(result="OK"),
        lambda fields: fields["predicate"].update(result="PASSED"),
        lambda fields: fields["predicate"].update(configuration=[]),
    ],
    ids=["statement", "predicate", "no subject", "no digest", "no result", "other result", "no scan"],
)
def test_a_statement_about_something_else_is_refused_though_it_is_signed(statement: Statement, change: Change) -> None:
    payload = changed(statement.model_dump_json(by_alias=True), change)
    with pytest.raises(EnvelopeError, match="must be an in-toto Statement"):
        verify(sealed(payload.encode()), [PUBLIC])


def test_no_key_trusts_nobody(envelope: str) -> None:
    with pytest.raises(ValueError, match="at least one trusted key"):
        verify(envelope, [])


# What it is about.


@pytest.mark.parametrize("digest", ["d1" * 32, "sha256:" + "d1" * 32, "D1" * 32, "1d" * 32])
def test_a_subject_is_found_by_either_digest(statement: Statement, digest: str) -> None:
    require_subject(statement, digest)


def test_another_model_is_refused(statement: Statement) -> None:
    with pytest.raises(SubjectMismatch, match="wanted " + "b2" * 32):
        require_subject(statement, "b2" * 32)
    with pytest.raises(StatementError):
        require_subject(statement, "")


def test_a_subject_without_a_sha256_matches_nothing(statement: Statement) -> None:
    fields = json.loads(statement.model_dump_json(by_alias=True))
    fields["subject"] = [{"digest": {"sha1": "d1" * 20}}]
    with pytest.raises(SubjectMismatch):
        require_subject(Statement.model_validate(fields), "d1" * 32)


# Keys.


def test_a_new_key_is_for_its_owner_only_and_signs(tmp_path: Path, statement: Statement) -> None:
    private = tmp_path / "release.pem"
    public = signing.create_key(private)
    assert public == tmp_path / "release.pub.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert private.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    trusted = signing.load_public_key(public)
    assert verify(sign(statement, signing.load_private_key(private)), [trusted]).key_id == key_id(trusted)
    assert b"PRIVATE" not in public.read_bytes()


@pytest.mark.parametrize("taken", ["release.pem", "release.pub.pem"])
def test_no_key_is_overwritten_and_none_is_left_alone(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).write_text("mine")
    with pytest.raises(SigningKeyError, match="cannot be made: File exists"):
        signing.create_key(tmp_path / "release.pem")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(taken, "mine")]


def test_a_key_needs_a_directory(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyError, match="No such file or directory"):
        signing.create_key(tmp_path / "no" / "release.pem")


def test_a_key_id_is_the_digest_of_the_public_key() -> None:
    # openssl pkey -pubin -in key.pub.pem -outform DER | sha256sum
    assert key_id(PUBLIC) == "a050837d85070582ccf7394b0988847cc312cb88259b894899f6f239cf1791a5"


PKCS8 = (Encoding.PEM, PrivateFormat.PKCS8)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no key",
        KEY.private_bytes(*PKCS8, BestAvailableEncryption(b"secret")),
        PUBLIC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        generate_ec_key(SECP256R1()).private_bytes(*PKCS8, NoEncryption()),
    ],
    ids=["empty", "text", "encrypted", "public", "ec"],
)
def test_what_is_no_private_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(SigningKeyError, match="ed25519 private key in PEM without a password"):
        signing.load_private_key(tmp_path / "key.pem")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        KEY.private_bytes(*PKCS8, NoEncryption()),
        generate_ec_key(SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    ],
    ids=["empty", "private", "ec"],
)
def test_what_is_no_public_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key.pem").write_bytes(content)
    with pytest.raises(SigningKeyError, match="ed25519 public key"):
        signing.load_public_key(tmp_path / "key.pem")


@pytest.mark.parametrize("load", [signing.load_private_key, signing.load_public_key])
def test_a_key_that_is_not_there(tmp_path: Path, load: Callable[[Path], object]) -> None:
    with pytest.raises(SigningKeyError, match="cannot be read: No such file"):
        load(tmp_path / "none.pem")
