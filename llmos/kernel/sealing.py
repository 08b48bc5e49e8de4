"""Contents that hold a secret, encrypted before they are kept: AES-256-GCM under a key that lies outside of them.

Who reads the folder of contents alone (a copy, a backup) learns no secret; who may read the key as well, may read the
files themselves anyway. Source: NIST SP 800-38D.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_KEY_BYTES = 32
_NONCE_BYTES = 12
_CHUNK_CHARS = 1_000_000
_OVERLAP_CHARS = 10_000


@dataclass(frozen=True, kw_only=True)
class Sealing:
    """Encrypts contents in which `redact` finds something to take out, under a key in a file made when needed."""

    key: Path
    redact: Callable[[str], str]

    def is_needed(self, content: bytes) -> bool:
        """Whether a content holds a secret, as far as anyone can tell by looking."""
        text = content.decode("utf-8", errors="replace")
        starts = range(0, max(1, len(text)), _CHUNK_CHARS)
        chunks = (text[start : start + _CHUNK_CHARS + _OVERLAP_CHARS] for start in starts)
        return any(self.redact(chunk) != chunk for chunk in chunks)

    def sealed(self, content: bytes, name: str) -> bytes:
        """A content as it is kept under `name`; OSError: the key can't be read or made."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self._key(make=True)).encrypt(nonce, content, name.encode())

    def opened(self, sealed: bytes, name: str) -> bytes:
        """The content that was kept under `name`; OSError: it is damaged, or its key is lost."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            cipher = AESGCM(self._key(make=False))
            return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
        except (InvalidTag, ValueError) as error:
            raise OSError(errno.EIO, f"it is encrypted, and {self.key} is not the key to it") from error

    def _key(self, *, make: bool) -> bytes:
        try:
            return self.key.read_bytes()
        except FileNotFoundError as error:
            if not make:
                raise OSError(errno.ENOENT, f"it is encrypted, and the key {self.key} is gone") from error
        fresh = os.urandom(_KEY_BYTES)
        temporary = self.key.with_name(f".{self.key.name}.{os.getpid()}.tmp")
        writing = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(writing, "wb") as stream:
                stream.write(fresh)
                stream.flush()
                os.fsync(stream.fileno())
            os.link(temporary, self.key)  # never over a key that is there
        except FileExistsError:
            return self.key.read_bytes()
        finally:
            temporary.unlink(missing_ok=True)
        return fresh
