"""TLS of the SDK's channels: the files that the user names."""

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

TLS_SCHEME = "grpcs://"
PLAIN_SCHEME = "grpc://"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """What to trust and what to show. All files are PEM.

    Attributes:
        ca_file: The authorities whose servers to trust; none for those that gRPC knows.
        certificate_file: The certificate to show to a server that wants one, if any.
        key_file: Its private key, not encrypted.
    """

    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError(
                "client_certificate_file and client_key_file go together; one of them is missing"
            )

    @classmethod
    def for_address(
        cls, address: str, ca_file: str | None, certificate_file: str | None, key_file: str | None
    ) -> "Tls | None":
        """Returns the TLS of an address; none if neither it nor a file asks for TLS."""
        if address.startswith(TLS_SCHEME) or ca_file or certificate_file or key_file:
            if address.startswith(PLAIN_SCHEME):
                raise ValueError(
                    f"{address} says that there is no TLS, but a file for TLS is given"
                )
            return cls(
                ca_file=ca_file or None,
                certificate_file=certificate_file or None,
                key_file=key_file or None,
            )
        return None

    def credentials(self) -> grpc.ChannelCredentials:
        """Returns what gRPC wants.

        Raises:
            OSError: A file can't be read.
            ValueError: A file is not what it should be, or the key is of another certificate.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.ca_file is not None:
                context.load_verify_locations(self.ca_file)
            if self.certificate_file is not None:
                context.load_cert_chain(self.certificate_file, self.key_file, password="")
        except ssl.SSLError as error:
            files = [self.ca_file, self.certificate_file, self.key_file]
            raise ValueError(
                f"TLS: {error.reason or error} in {', '.join(file for file in files if file)}"
            ) from None
        root, certificate, key = (
            None if file is None else Path(file).read_bytes()
            for file in (self.ca_file, self.certificate_file, self.key_file)
        )
        return grpc.ssl_channel_credentials(root, key, certificate)


def target_of(address: str) -> str:
    """Returns an address as gRPC wants it."""
    return address.removeprefix(TLS_SCHEME).removeprefix(PLAIN_SCHEME)
