"""The check of sign-in for `treadle doctor`."""

from app.server.sign_in.jwks import KeySet
from app.server.sign_in.oidc import OidcIssuer
from app.settings import Settings
from persistence.problems import Unavailable


async def check_sign_in(settings: Settings) -> tuple[bool, str]:
    """Check whether the keys of the issuer can be fetched.

    Returns:
        Whether the check has passed, and a text on how callers sign in.
    """
    if not settings.has_sign_in:
        return True, "off: every caller is admin, on loopback only (docs/sign_in.md)"
    browsers = None
    if settings.oidc_issuer is not None:
        try:
            await OidcIssuer(settings).begin("/")
        except Unavailable:
            advice = "check TREADLE_OIDC_ISSUER, which must be its `issuer` exactly, and the network"
            return False, f"{settings.oidc_issuer} gives no OpenID configuration: {advice}"
        browsers = f"browsers at {settings.oidc_issuer}"
    secret = "HS256 with TREADLE_JWT_SECRET" if settings.jwt_secret is not None else None
    if settings.jwt_jwks_url is None:
        return True, ", and ".join(filter(None, ["API keys", secret, browsers]))
    keys = KeySet(settings.jwt_jwks_url)
    try:
        algorithms, problem = await keys.check()
    finally:
        await keys.close()
    if problem is not None:
        return False, f"{settings.jwt_jwks_url} gives no keys ({problem}): check TREADLE_JWT_JWKS_URL and the network"
    plain = "; the keys come over plain HTTP" if settings.jwt_jwks_url.startswith("http://") else ""
    names = ", ".join(sorted(algorithms))
    return (
        True,
        f"{' and '.join(filter(None, ['API keys', secret, f'{names} with keys of the issuer', browsers]))}{plain}",
    )
