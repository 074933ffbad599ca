"""A sentence of a report, and how serious it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# What was taken for granted; what a person should look at; with what a network as a rule does not train.
INFO, WARNING, ERROR = SEVERITIES = ("info", "warning", "error")


class Finding(str):
    """A sentence on what a reader should look at.

    Attributes:
      severity: "info" of what was taken for granted or is worth knowing, "warning" of what may be meant but often is a
        mistake, "error" of what as a rule keeps a network from training.
    """

    severity: str

    def __new__(cls, text: str, severity: str = WARNING) -> Finding:
        """A finding; of a plain sentence a warning."""
        found = super().__new__(cls, text)
        found.severity = severity
        return found


class UnhealthyError(AssertionError):
    """A report has findings of the severity that was asked for.

    Attributes:
      findings: those.

    Example:
      >>> import qrjax
      >>> report = qrjax.Report([], ["a sentence that nobody gave a severity is a warning"])
      >>> report.assert_healthy()
      >>> try:
      ...     report.assert_healthy("warning")
      ... except qrjax.UnhealthyError as error:
      ...     print(error.findings[0].severity)
      warning
    """

    def __init__(self, message: str, findings: Sequence[Finding] = ()):
        super().__init__(message)
        self.findings = tuple(findings)


def check_healthy(findings: Sequence[Finding], severity: Any) -> None:
    """Nothing, if no finding is as serious.

    Raises:
      ValueError: if there is no such severity.
      UnhealthyError: if there are some.
    """
    if severity not in SEVERITIES:
        raise ValueError(f"`severity` must be one of {', '.join(map(repr, SEVERITIES))}, got {severity!r}")
    rank = SEVERITIES.index(severity)
    serious = [f for f in findings if SEVERITIES.index(f.severity) >= rank]
    if serious:
        lines = "\n".join(f"- {f.severity}: {f}" for f in serious)
        above = "" if severity == ERROR else " or above"
        raise UnhealthyError(f"the report has findings of severity {severity!r}{above}:\n{lines}", serious)
