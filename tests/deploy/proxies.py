"""Runs the configurations in deploy/ with a certificate for 127.0.0.1, on free ports."""

import asyncio
import getpass
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.paths import ROOT
from tests.programs import path_of

NAME = "treadle.example.com"
START_S = 15.0
NGINX = """
daemon off;
user {user};
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/treadle.conf;
}}
"""
CADDY = "{{\n\tadmin off\n\tauto_https off\n}}\n\n{site}"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def write_certificate(folder: Path, name: str = NAME) -> ssl.SSLContext:
    """Write `certificate.pem` and `key.pem`, and return a context for clients that trusts them."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(pem)
    return ssl.create_default_context(cafile=folder / "certificate.pem")


def _replaced(text: str, *pairs: tuple[str, str]) -> str:
    for before, after in pairs:
        assert before in text, f"the configuration has no {before!r} any more"
        text = text.replace(before, after)
    return text


def nginx_command(folder: Path, server: str, port: int) -> list[str]:
    text = _replaced(
        (ROOT / "deploy/nginx/treadle.conf").read_text(),
        ("listen 80;", f"listen 127.0.0.1:{free_port()};"),
        ("listen 443 ssl http2;", f"listen 127.0.0.1:{port} ssl http2;"),
        ("server 127.0.0.1:8000 ", f"server {server} "),
        ("/etc/ssl/treadle/certificate.pem", f"{folder}/certificate.pem"),
        ("/etc/ssl/treadle/key.pem", f"{folder}/key.pem"),
    )
    (folder / "treadle.conf").write_text(text)
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, user=getpass.getuser()))
    return [path_of("nginx") or "nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]


def caddy_command(folder: Path, server: str, port: int) -> list[str]:
    site = _replaced(
        (ROOT / "deploy/caddy/Caddyfile").read_text(),
        (f"\n{NAME} {{\n", f"\nhttps://{NAME}:{port} {{\n\tbind 127.0.0.1\n\ttls certificate.pem key.pem\n"),
        ("127.0.0.1:8000", server),
    )
    (folder / "Caddyfile").write_text(CADDY.format(site=site))
    return [path_of("caddy") or "caddy", "run", "--adapter", "caddyfile", "--config", "Caddyfile"]


COMMANDS = {"nginx": nginx_command, "caddy": caddy_command}


@asynccontextmanager
async def proxied(program: str, folder: Path, server: str) -> AsyncIterator[int]:
    """Run a proxy before the server at this address, and yield its TLS port on 127.0.0.1."""
    port = free_port()
    command = COMMANDS[program](folder, server, port)
    environment = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    log = folder / "log"
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment, stdout=log.open("wb"), stderr=asyncio.subprocess.STDOUT
    )
    try:
        await _until_open(port, process, log)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _until_open(port: int, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(START_S):
        while True:
            assert process.returncode is None, log.read_text()  # noqa: ASYNC240 - a small file of this test
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return
