# ruff: noqa: N818 - named as the answer they give, as in docs/cli.md
"""Everything that can go wrong, in one hierarchy; the class decides the exit code.

    SlipwayError                     1   a defect of slipway
    ├── InvalidArguments             2   a flag, a variable or slipway.toml is wrong
    ├── InvalidModel                 3   no ONNX model, or one that cannot be served
    ├── Differs                      4   what was compared is not the same
    ├── NotFound                     5   there is no such file, object, field or server
    ├── Conflict                     6   other content is there already; nothing was overwritten
    ├── AccessDenied                 7   the storage or the file system refuses
    ├── Unavailable                  8   no answer, or server errors, after bounded retries
    ├── MissingExtra                 9   a package that only this command needs is not installed
    ├── ExportFailed                10   no exporter could turn the model into ONNX
    ├── UntrustedPickle             11   reading the file would run code from it
    ├── BoundsMissed                12   no variant is as small, as fast and as exact as wanted
    └── RolloutFailed               13   the cluster does not serve what was deployed

Each carries a sentence that says what is wrong and a hint that says what to do.
"""

from typing import ClassVar


class SlipwayError(Exception):
    """The base of all errors that this package raises on purpose."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def reason(self) -> str:
        """The name by which programs know this error."""
        return type(self).__name__


class InvalidArguments(SlipwayError):
    """A flag, a variable or slipway.toml is wrong."""

    exit_code = 2


class InvalidModel(SlipwayError):
    """The file is no ONNX model, or one that cannot be served."""

    exit_code = 3


class Differs(SlipwayError):
    """What was compared is not the same."""

    exit_code = 4


class NotFound(SlipwayError):
    """There is no such file, object, field or server."""

    exit_code = 5


class Conflict(SlipwayError):
    """Other content is there already; nothing was overwritten."""

    exit_code = 6


class AccessDenied(SlipwayError):
    """The storage or the file system refuses."""

    exit_code = 7


class Unavailable(SlipwayError):
    """No answer, or server errors, after bounded retries."""

    exit_code = 8


class MissingExtra(SlipwayError):
    """A package that only this command needs is not installed."""

    exit_code = 9


class ExportFailed(SlipwayError):
    """No exporter could turn the model into ONNX."""

    exit_code = 10


class UntrustedPickle(SlipwayError):
    """Reading the file would run code from it."""

    exit_code = 11


class BoundsMissed(SlipwayError):
    """No variant of a model is as small, as fast and as exact as wanted; none was kept."""

    exit_code = 12


class RolloutFailed(SlipwayError):
    """The cluster does not serve what was deployed: it failed, or was not ready in time."""

    exit_code = 13
