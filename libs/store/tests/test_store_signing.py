"""Keys, canonical JSON and signatures."""

import json
import math
import stat
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from trimtab.store.canonical import canonical
from trimtab.store.errors import BadKeyFileError, BadSignatureError, KeyFileExistsError, NotCanonicalError
from trimtab.store.signing import Signer, Verifier, make_key_pair

EVENT = {"loop": "flights", "sequence": 3, "champion": {"version": 2, "classes": None}, "score": 0.25}
finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer.generate()


def test_a_sealed_event_is_accepted(signer: Signer) -> None:
    signer.verifier().check(signer.sealed(EVENT))


def test_the_order_of_fields_and_the_form_of_numbers_do_not_matter(signer: Signer) -> None:
    sealed = signer.sealed({"a": 1, "b": 2.0})
    signer.verifier().check({"b": 2, "signature": sealed["signature"], "a": 1.0})


@pytest.mark.parametrize("change", [{"sequence": 4}, {"extra": None}, {"champion": {"version": 2, "classes": []}}])
def test_a_changed_event_is_refused(signer: Signer, change: dict[str, object]) -> None:
    with pytest.raises(BadSignatureError, match="none of the trusted keys"):
        signer.verifier().check({**signer.sealed(EVENT), **change})


@pytest.mark.parametrize("signature", [None, 3, "", "not base64!", "AAAA", "é"])
def test_what_is_no_signature_is_refused(signer: Signer, signature: object) -> None:
    with pytest.raises(BadSignatureError):
        signer.verifier().check({**EVENT, "signature": signature})


def test_what_nobody_can_have_signed_is_refused(signer: Signer) -> None:
    with pytest.raises(BadSignatureError, match="no canonical JSON form"):
        signer.verifier().check({**signer.sealed(EVENT), "loss": float("inf")})


def test_another_key_is_refused(signer: Signer) -> None:
    with pytest.raises(BadSignatureError):
        Signer.generate().verifier().check(signer.sealed(EVENT))


def test_a_key_pair_in_files(tmp_path: Path) -> None:
    private, public = make_key_pair(tmp_path / "keys", "registry")
    Verifier.load(public).check(Signer.load(private).sealed(EVENT))
    assert stat.S_IMODE(private.stat().st_mode) == 0o600


def test_a_key_pair_is_never_overwritten(tmp_path: Path) -> None:
    private, _ = make_key_pair(tmp_path, "registry")
    before = private.read_bytes()
    with pytest.raises(KeyFileExistsError):
        make_key_pair(tmp_path, "registry")
    assert private.read_bytes() == before


def test_while_keys_are_exchanged_both_are_trusted(tmp_path: Path) -> None:
    old, new = Signer.generate(), Signer.generate()
    path = tmp_path / "trusted.pem"
    path.write_bytes(old.public_pem() + new.public_pem())
    verifier = Verifier.load(path)
    verifier.check(old.sealed(EVENT))
    verifier.check(new.sealed(EVENT))


def test_files_that_hold_no_key(tmp_path: Path) -> None:
    rsa = generate_private_key(65537, 2048)
    files = {
        "text": b"hello",
        "empty": b"",
        "rsa": rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "rsa.pub": rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    for name in [*files, "missing"]:
        with pytest.raises(BadKeyFileError, match="Ed25519"):
            Signer.load(tmp_path / name)
        with pytest.raises(BadKeyFileError, match="Ed25519"):
            Verifier.load(tmp_path / name)


# RFC 8785, appendix B: IEEE 754 bits and their text.
NUMBERS = [
    ("0000000000000000", "0"), ("8000000000000000", "0"), ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"), ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"), ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"), ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"), ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"), ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"), ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"), ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"), ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"), ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"), ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]  # fmt: skip


@pytest.mark.parametrize(("bits", "text"), NUMBERS)
def test_numbers_of_rfc_8785(bits: str, text: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(number) == text.encode()


def test_fields_are_sorted_by_utf_16_code_units() -> None:
    names = ["€", "\r", "\ufb33", "1", "😀", "\x80", "ö"]
    assert list(json.loads(canonical(dict.fromkeys(names)))) == ["\r", "1", "\x80", "ö", "€", "😀", "\ufb33"]


@pytest.mark.parametrize("value", [math.nan, math.inf, b"x", {1: 2}, {"a": object()}, "\ud800"])
def test_what_has_no_canonical_form(value: object) -> None:
    with pytest.raises(NotCanonicalError):
        canonical(value)


@given(json_values)
def test_canonical_form_keeps_the_value_and_is_its_own(value: object) -> None:
    text = canonical(value)
    assert json.loads(text, parse_int=float) == value
    assert canonical(json.loads(text)) == text
