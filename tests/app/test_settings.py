"""Settings: their precedence, and error lines for invalid values."""

from pathlib import Path

import pytest

from app.setting_errors import error_line
from app.settings import Settings, load_settings, unknown_variables
from tests.app.commands import Treadle
from tests.paths import ROOT


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TREADLE_{name.upper()}", raising=False)


def test_overrides_precede_the_environment_which_precedes_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("TREADLE_PORT=1\nTREADLE_WORKERS=1\nTREADLE_MAX_JOBS=1\n")
    monkeypatch.setenv("TREADLE_PORT", "2")
    monkeypatch.setenv("TREADLE_WORKERS", "2")
    settings = load_settings(port=3, workers=None)
    assert (settings.port, settings.workers, settings.max_jobs) == (3, 2, 1)


def test_the_error_of_a_setting_that_may_be_secret_does_not_repeat_its_value() -> None:
    secret = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    assert "oidc_client_secret" in secret
    lines = [error_line((name,), "canary", "Value error, must be better") for name in (*secret, "database_url")]
    assert [line for line in lines if "canary" in line] == []


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_DATABASE_URL", "")
    assert load_settings().database_url is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TREADLE_PORT", "http", "TREADLE_PORT='http': input should be a valid integer"),
        ("TREADLE_LOG_LEVEL", "loud", "TREADLE_LOG_LEVEL='loud'"),
        ("TREADLE_HOST", "0.0.0.0", "TREADLE_HOST='0.0.0.0': must be a loopback address, because sign-in is not"),
        ("TREADLE_JWT_SECRET", "short", "treadle: TREADLE_JWT_SECRET: must have at least 32 bytes"),
        ("TREADLE_JWT_JWKS_URL", "file:///etc/passwd", "TREADLE_JWT_JWKS_URL='file:///etc/passwd': must be an https"),
        ("TREADLE_JWT_JWKS_URL", "https://issuer/keys", "needs TREADLE_JWT_ISSUER and TREADLE_JWT_AUDIENCE"),
        ("TREADLE_REDIS_URL", "localhost:6379", "TREADLE_REDIS_URL: must be a redis://"),
        ("TREADLE_DRAIN_S", "inf", "TREADLE_DRAIN_S='inf': input should be a finite number"),
        (
            "TREADLE_HTTP_ALLOW",
            "api.local,10.0.0.0/33",
            "TREADLE_HTTP_ALLOW='api.local,10.0.0.0/33': '10.0.0.0/33' does",
        ),
        ("TREADLE_TRUSTED_PROXIES", "10.0.0.0/33", "TREADLE_TRUSTED_PROXIES='10.0.0.0/33': '10.0.0.0/33' does"),
        ("TREADLE_ALLOWED_ORIGINS", "*", "TREADLE_ALLOWED_ORIGINS='*': '*' is no origin: write scheme, host and port"),
        ("TREADLE_ALLOWED_ORIGINS", "localhost:5173", "'localhost:5173' is no origin"),
        ("TREADLE_ALLOWED_ORIGINS", "http://a,http://b/path", "'http://b/path' is no origin"),
        ("TREADLE_ALLOWED_ORIGINS", "https://a:443", "'https://a:443' has the default port of its scheme"),
        ("TREADLE_ALLOWED_HOSTS", "*", "TREADLE_ALLOWED_HOSTS='*': '*' is no name of a host"),
        ("TREADLE_ALLOWED_HOSTS", "a.example:8000", "'a.example:8000' is no name of a host"),
        ("TREADLE_ALLOWED_HOSTS", "http://a.example", "'http://a.example' is no name of a host"),
        ("TREADLE_HEARTBEAT_S", "10", "TREADLE_HEARTBEAT_S must be at most half of TREADLE_LEASE_TTL_S"),
    ],
)
def test_an_invalid_value_is_reported_in_one_line_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as exit:
        load_settings()
    assert message in str(exit.value)
    assert "\n" not in str(exit.value)


def test_with_sign_in_the_server_may_bind_any_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_JWT_SECRET", "x" * 32)
    assert load_settings(host="0.0.0.0").host == "0.0.0.0"


def test_a_message_does_not_repeat_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_DATABASE_URL", "mysql://me:hunter2@db/treadle")
    with pytest.raises(SystemExit) as exit:
        load_settings()
    assert str(exit.value) == "treadle: TREADLE_DATABASE_URL: must be a postgresql:// address"


def test_a_misspelt_variable_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_WORKER", "2")
    assert "TREADLE_WORKER" in unknown_variables()


def test_a_misspelt_name_in_the_file_is_detected_and_reported_at_start(
    treadle: Treadle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("TREADLE_WORKER=2\nOTHER=1\n")
    assert "TREADLE_WORKER" in unknown_variables()
    output, _ = treadle("migrate", PYTHONPATH=str(ROOT)).communicate(timeout=60)
    assert "settings.unknown" in output
    assert "TREADLE_WORKER" in output


@pytest.mark.parametrize("name", ["rest_days", "retention_history_days", "retention_runs_days", "project_limit"])
@pytest.mark.parametrize("text", ["never", " Never "])
def test_a_limit_may_be_never(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    monkeypatch.setenv(f"TREADLE_{name.upper()}", text)
    assert getattr(load_settings(), name) is None


def test_an_empty_limit_is_its_default_and_not_never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_RETENTION_HISTORY_DAYS", "")
    assert load_settings().retention_history_days == 30
