"""The check of sign-in for `treadle doctor`."""

from app.server.sign_in.jwks import KeySet
from app.settings import Settings


async def check_sign_in(settings: Settings) -> tuple[bool, str]:
    """Check whether the keys of the issuer can be fetched.

    Returns:
        Whether the check has passed, and a text on how callers sign in.
    """
    if not settings.has_sign_in:
        return True, "off: every caller is admin, on loopback only (docs/sign_in.md)"
    secret = "HS256 with TREADLE_JWT_SECRET" if settings.jwt_secret is not None else None
    if settings.jwt_jwks_url is None:
        return True, f"API keys, and {secret}"
    keys = KeySet(settings.jwt_jwks_url)
    try:
        algorithms, problem = await keys.check()
    finally:
        await keys.close()
    if problem is not None:
        return False, f"{settings.jwt_jwks_url} gives no keys ({problem}): check TREADLE_JWT_JWKS_URL and the network"
    plain = "; the keys come over plain HTTP" if settings.jwt_jwks_url.startswith("http://") else ""
    names = ", ".join(sorted(algorithms))
    return True, f"{' and '.join(filter(None, ['API keys', secret, f'{names} with keys of the issuer']))}{plain}"
