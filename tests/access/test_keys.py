"""Which key is whose, and what the door makes of it."""

import pytest

from service.access.gate import Gate
from service.access.keys import Key, KeyRing, Secret, digest_of
from service.errors import Unauthorized
from service.tenancy import OF_SETTINGS, Principal, Role

NOW = 1_000.0
OPERATOR = Principal()


def key_of(secret: Secret, tenant: str = "team-a", **fields: object) -> Key:
    values = {"role": Role.USE, "created_at": 0, **fields}
    return Key(secret.id, tenant, digest=secret.digest, ending=secret.ending, **values)


def gate_of(operator_keys: tuple[str, ...], ring: KeyRing) -> Gate:
    return Gate(operator_keys, ring, lambda tenant: tenant == "team-a")


def test_a_secret_is_long_random_and_names_its_id() -> None:
    one, other = Secret.new(), Secret.new()
    assert one.text != other.text
    prefix, key_id, rest = one.text.split("_", 2)
    assert (prefix, key_id) == ("rk", one.id)
    assert len(rest) - len(one.ending) >= 43, "32 bytes stay unknown to who sees the ending"
    assert one.digest == digest_of(one.text.encode())


def test_a_ring_finds_a_key_by_all_of_it() -> None:
    ring, secret, other = KeyRing(), Secret.new(), Secret.new()
    ring.put(key_of(secret))
    text = secret.text.encode()
    assert ring.match(text) == ring.get(secret.id)
    for wrong in (b"", b"rk", b"rk_", text[:-1], text + b"x", b"xx" + text[2:], b"\xff" * 40):
        assert ring.match(wrong) is None
    assert ring.match(other.text.encode()) is None
    assert ring.match(f"rk_{secret.id}_{other.text.split('_', 2)[2]}".encode()) is None


def test_every_match_compares_one_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """A known id and an unknown one take the same steps."""
    compared: list[str] = []

    def compare(one: str, other: str) -> bool:
        compared.append(other)
        return one == other

    monkeypatch.setattr("service.access.keys.hmac.compare_digest", compare)
    ring, secret = KeyRing(), Secret.new()
    for _ in range(100):
        ring.put(key_of(Secret.new()))
    ring.put(key_of(secret))
    for sent in (secret.text, Secret.new().text, "nonsense"):
        compared.clear()
        ring.match(sent.encode())
        assert len(compared) == 1


def test_a_list_shows_a_tenants_keys_that_are_not_revoked() -> None:
    ring = KeyRing()
    keys = [key_of(Secret.new(), created_at=i) for i in (2, 1)]
    gone, others = key_of(Secret.new(), revoked_at=3), key_of(Secret.new(), "team-b")
    for key in (*keys, gone, others):
        ring.put(key)
    assert ring.of_tenant("team-a") == [keys[1], keys[0]]


@pytest.mark.parametrize("operator_keys", [(), ("first", "second")], ids=["open", "closed"])
class TestGate:
    def test_a_managed_key_means_its_principal(self, operator_keys: tuple[str, ...]) -> None:
        ring, secret = KeyRing(), Secret.new()
        ring.put(key_of(secret, role=Role.PUBLISH, min_priority=5))
        principal = gate_of(operator_keys, ring).admit(secret.text.encode(), NOW)
        assert principal == Principal("team-a", Role.PUBLISH, secret.id, 5)
        assert not principal.is_operator

    @pytest.mark.parametrize("fields", [{"revoked_at": 999}, {"expires_at": 1000}], ids=str)
    def test_one_that_has_ended_is_nobodys(
        self, operator_keys: tuple[str, ...], fields: dict[str, int]
    ) -> None:
        ring, secret = KeyRing(), Secret.new()
        ring.put(key_of(secret, **fields))
        with pytest.raises(Unauthorized) as ended:
            gate_of(operator_keys, ring).admit(secret.text.encode(), NOW)
        with pytest.raises(Unauthorized) as unknown:
            gate_of(("x",), ring).admit(b"nonsense", NOW)
        assert str(ended.value) == str(unknown.value)

    def test_one_of_a_tenant_that_is_gone_opens_nothing(
        self, operator_keys: tuple[str, ...]
    ) -> None:
        ring, secret = KeyRing(), Secret.new()
        ring.put(key_of(secret, "gone"))
        with pytest.raises(Unauthorized):
            gate_of(operator_keys, ring).admit(secret.text.encode(), NOW)

    def test_until_it_expires_it_is_valid(self, operator_keys: tuple[str, ...]) -> None:
        ring, secret = KeyRing(), Secret.new()
        ring.put(key_of(secret, expires_at=1001))
        assert gate_of(operator_keys, ring).admit(secret.text.encode(), NOW).tenant == "team-a"


def test_without_keys_everybody_is_an_operator() -> None:
    gate = gate_of((), KeyRing())
    assert gate.admit(b"", NOW) == gate.admit(b"none", NOW) == OPERATOR


def test_with_keys_only_they_open() -> None:
    gate = gate_of(("first", "zweiter-schlüssel"), KeyRing())
    for key in ("first", "zweiter-schlüssel"):
        assert gate.admit(key.encode(), NOW) == OF_SETTINGS
    assert OF_SETTINGS.is_operator
    for wrong in (b"", b"firs", b"first ", Secret.new().text.encode()):
        with pytest.raises(Unauthorized):
            gate.admit(wrong, NOW)
