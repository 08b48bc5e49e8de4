"""What must not be written down, and what stands in its place: secrets by name, and what looks like a credential.

`«secret:NAME»` stands for the value of a variable that the settings name, `«secret»` for a credential that was only
recognised. Pure: no environment, no files.
"""

from llmos.redaction.credentials import Found, credentials_in, is_credential_name
from llmos.redaction.marks import NAME, UNNAMED, mark, marks_in, secret_of
from llmos.redaction.redactor import Credential, Redactor
from llmos.redaction.several import Redactors

__all__ = [
    "NAME",
    "UNNAMED",
    "Credential",
    "Found",
    "Redactor",
    "Redactors",
    "credentials_in",
    "is_credential_name",
    "mark",
    "marks_in",
    "secret_of",
]
