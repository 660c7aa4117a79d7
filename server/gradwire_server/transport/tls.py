"""TLS: certificates from files, read again when they change."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc
import structlog

from gradwire_server.reloading import CHECK_SECONDS, Reloaded

log = structlog.get_logger(__name__)


class TlsFileError(ValueError):
    """A certificate or key that cannot be used; the message names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """The files of a server's TLS, all PEM.

    Attributes:
        certificate: The server's certificate, followed by those of intermediate authorities.
        key: Its private key, not encrypted.
        client_ca: The authorities whose certificates callers must show; none if callers show none.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of them."""
        return tuple(path for path in (self.certificate, self.key, self.client_ca) if path)

    def load(self) -> grpc.ServerCertificateConfiguration:
        """Returns what gRPC wants to know, after checking that the files fit together.

        Raises:
            TlsFileError: A file cannot be read, is no PEM, or the key is of another certificate.
        """
        contents = {path: _read(path) for path in self.paths}
        _check_pair(self.certificate, self.key)
        if self.client_ca is not None:
            _check_authorities(self.client_ca)
        return grpc.ssl_server_certificate_configuration(
            [(contents[self.key], contents[self.certificate])],
            root_certificates=None if self.client_ca is None else contents[self.client_ca],
        )

    def load_context(self) -> ssl.SSLContext:
        """Returns the same for a server that does not speak gRPC.

        Raises:
            TlsFileError: See `load`.
        """
        self.load()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        if self.client_ca is not None:
            context.load_verify_locations(self.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def server_credentials(
    files: TlsFiles, *, check_seconds: float = CHECK_SECONDS
) -> grpc.ServerCredentials:
    """Returns the credentials of a server; each new connection gets what the files say then.

    Raises:
        TlsFileError: See `TlsFiles.load`.
    """
    reloaded = Reloaded("certificates", files.paths, files.load, check_seconds=check_seconds)
    # gRPC asks at each handshake, in a thread of its own.
    return grpc.dynamic_ssl_server_credentials(
        reloaded.value,
        lambda: reloaded.value,
        require_client_authentication=files.client_ca is not None,
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsFileError(f"cannot read {path}: {error.strerror}") from None


def _check_pair(certificate: Path, key: Path) -> None:
    """Raises TlsFileError unless the key is that of the certificate."""

    def encrypted() -> str:
        raise TlsFileError(f"the key {key} is encrypted; give one that is not")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=encrypted)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsFileError(
                f"the key {key} is not the key of the certificate {certificate}"
            ) from None
        raise TlsFileError(_unparsable(certificate, key)) from None


def _unparsable(certificate: Path, key: Path) -> str:
    """Returns which of the two files OpenSSL could not understand, in words."""
    try:
        ssl.PEM_cert_to_DER_cert(certificate.read_text(encoding="ascii").strip())
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(certificate)
    except (ValueError, ssl.SSLError):
        return f"{certificate} has no certificate in PEM, or a broken one"
    return f"{key} has no private key in PEM, or a broken one"


def _check_authorities(path: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except ssl.SSLError:
        raise TlsFileError(f"{path} has no certificate in PEM, or a broken one") from None
