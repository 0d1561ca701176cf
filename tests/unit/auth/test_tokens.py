"""Access tokens as the gateway receives them, and which ones it rejects."""

import pytest
from mesh_auth.domain import Lifetimes, SessionId, User
from mesh_auth.tokens import ES256TokenSigner, new_refresh_token, refresh_token_hash
from mesh_common.clock import utc_now
from mesh_common.errors import Unauthenticated
from mesh_common.ids import UserId, new_id
from mesh_common.jwt import JWTVerifier, SigningKey, new_private_key_pem, parse_jwks


def make_signer(
    lifetimes: Lifetimes, *, key: SigningKey | None = None, audience: str = "mesh", others: tuple[SigningKey, ...] = ()
) -> ES256TokenSigner:
    key = key or SigningKey.from_pem(new_private_key_pem())
    return ES256TokenSigner(key, others=others, issuer="https://i", audience=audience, ttl=lifetimes.access_token)


def verifier_of(signer: ES256TokenSigner) -> JWTVerifier:
    return JWTVerifier(parse_jwks(signer.jwks_json()), token_type="at+jwt", audience="mesh", issuer="https://i")


@pytest.fixture
def ada() -> User:
    return User(UserId(new_id()), "ada@example.com", utc_now())


def test_each_token_has_an_id_of_its_own(lifetimes: Lifetimes, ada: User) -> None:
    signer = make_signer(lifetimes)
    session = SessionId(new_id())
    tokens = [signer.sign(ada, session, now=utc_now()) for _ in range(2)]

    claims = [verifier_of(signer).verify(token) for token in tokens]

    assert claims[0]["jti"] != claims[1]["jti"]
    assert {entry["sid"] for entry in claims} == {str(session)}


def test_token_of_the_previous_key_is_good_after_the_keys_moved_on(lifetimes: Lifetimes, ada: User) -> None:
    previous, current = (SigningKey.from_pem(new_private_key_pem()) for _ in range(2))
    token = make_signer(lifetimes, key=previous).sign(ada, SessionId(new_id()), now=utc_now())

    moved_on = make_signer(lifetimes, key=current, others=(previous,))

    assert verifier_of(moved_on).verify(token)["sub"] == str(ada.id)


def test_expired_token_is_refused(lifetimes: Lifetimes, ada: User) -> None:
    signer = make_signer(lifetimes)
    token = signer.sign(ada, SessionId(new_id()), now=utc_now() - 2 * lifetimes.access_token)

    with pytest.raises(Unauthenticated):
        verifier_of(signer).verify(token)


def test_token_for_another_audience_is_refused(lifetimes: Lifetimes, ada: User) -> None:
    key = SigningKey.from_pem(new_private_key_pem())
    token = make_signer(lifetimes, key=key, audience="other").sign(ada, SessionId(new_id()), now=utc_now())

    with pytest.raises(Unauthenticated):
        verifier_of(make_signer(lifetimes, key=key)).verify(token)


def test_same_key_named_twice_stands_once_in_the_jwks(lifetimes: Lifetimes) -> None:
    key = SigningKey.from_pem(new_private_key_pem())

    assert len(parse_jwks(make_signer(lifetimes, key=key, others=(key,)).jwks_json())) == 1


def test_refresh_token_is_opaque_and_has_256_bits() -> None:
    token = new_refresh_token()

    assert len(token) == 43
    assert token != new_refresh_token()
    assert len(refresh_token_hash(token)) == 32
