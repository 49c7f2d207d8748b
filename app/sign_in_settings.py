"""The settings of sign-in: how tokens are checked, and where people sign in.

docs/sign_in.md explains them. `Settings` inherits them; nothing else uses this module.
"""

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from app.setting_types import IssuerUrl, JwksUrl, JwtSecret, Scope


class SignInSettings(BaseSettings):
    """The settings of sign-in, which is on if `jwt_secret`, `jwt_jwks_url` or `oidc_issuer` is set."""

    jwt_secret: JwtSecret | None = Field(
        None,
        description="Turns sign-in on (sign_in.md). The secret of tokens that are signed with HS256, at least 32 bytes. "
        "Set it if a program of your own makes the tokens.",
    )
    jwt_jwks_url: JwksUrl | None = Field(
        None,
        description="Turns sign-in on. Address of the key set (JWKS) of the issuer, for tokens that are signed with "
        "RS256, ES256 or EdDSA. Set it, with issuer and audience, if an identity provider makes the tokens.",
    )
    jwt_issuer: str | None = Field(
        None, description="The `iss` that tokens must have. Default: any. Set it to the name of your issuer."
    )
    jwt_audience: str | None = Field(
        None, description="The `aud` that tokens must contain. Default: any. Set it to the name of this application."
    )
    jwt_claim: str = Field(
        "treadle",
        min_length=1,
        description="The claim of tokens with the roles: an object of project ids, project names or `*` to `viewer`, "
        "`runner`, `editor` or `admin`. Change it if your issuer has a name for such a claim already.",
    )
    oidc_issuer: IssuerUrl | None = Field(
        None,
        description="Turns sign-in on, for browsers: the address of an OpenID Connect issuer, such as "
        "`https://login.example.com/realms/main`. People sign in there, and the pages of the server use a session cookie. "
        "Set it, with `TREADLE_OIDC_CLIENT_ID` and `TREADLE_PUBLIC_URL`, if people use the pages of the server.",
    )
    oidc_client_id: str | None = Field(
        None,
        description="The name of this server at that issuer. Register the address `<TREADLE_PUBLIC_URL>/auth/callback` "
        "there. Set it together with `TREADLE_OIDC_ISSUER`.",
    )
    oidc_client_secret: SecretStr | None = Field(
        None,
        description="The secret of this server at that issuer. Default: none; the client is then public, and PKCE alone "
        "protects the sign-in. Set it if the issuer requires it.",
    )
    oidc_scope: Scope = Field(
        "openid",
        description="The scopes of the sign-in, separated by spaces. Set it to `openid offline_access` if the issuer needs that "
        "for refresh tokens, and add the scope that adds the claim with the roles if there is one.",
    )
    token: SecretStr | None = Field(
        None, description="Token or API key that commands such as `treadle run` send. Set it for a server with sign-in."
    )

    @property
    def has_sign_in(self) -> bool:
        """Whether requests need a token or a session."""
        return any(value is not None for value in (self.jwt_secret, self.jwt_jwks_url, self.oidc_issuer))

    @model_validator(mode="after")
    def _check_jwks(self) -> "SignInSettings":
        if self.jwt_jwks_url is not None and (self.jwt_issuer is None or self.jwt_audience is None):
            raise ValueError(
                "TREADLE_JWT_JWKS_URL needs TREADLE_JWT_ISSUER and TREADLE_JWT_AUDIENCE: otherwise tokens that the "
                "issuer made for other applications would be accepted"
            )
        return self

    @model_validator(mode="after")
    def _check_oidc(self) -> "SignInSettings":
        if (self.oidc_issuer is None) != (self.oidc_client_id is None):
            raise ValueError("TREADLE_OIDC_ISSUER and TREADLE_OIDC_CLIENT_ID must be set together")
        return self
