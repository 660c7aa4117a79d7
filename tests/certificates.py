"""Certificates for tests: an authority, and files as an operator has them."""

from dataclasses import dataclass
from pathlib import Path

import trustme


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one certificate."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority that writes into a folder."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self._folder = folder
        self.file = folder / "ca.pem"
        folder.mkdir(exist_ok=True)
        self._ca.cert_pem.write_to_path(str(self.file))

    def issue(self, name: str, *identities: str) -> Files:
        """Writes a new certificate for hosts or addresses; replaces one of the same name."""
        issued = self._ca.issue_cert(*(identities or ("127.0.0.1", "localhost")))
        files = Files(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        # Whole files are moved into place, as whatever renews certificates does.
        for path, pem in (
            (files.key, issued.private_key_pem.bytes()),
            (files.certificate, b"".join(blob.bytes() for blob in issued.cert_chain_pems)),
        ):
            draft = path.with_suffix(".new")
            draft.write_bytes(pem)
            draft.rename(path)
        return files
