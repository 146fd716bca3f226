"""A finding about a running training: what an early look found wrong, and what to do about it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

JUDGED_FROM = 0.5
"""Share of the run from which pictures are judged. A run of eight minutes on emoji drew noise at a quarter of its
length, and none at half."""

FindingKind = Literal[
    "exploded",
    "not_learning",
    "slow",
    "behind",
    "average_lags",
    "noise",
    "grainy",
    "flat",
    "saturated",
    "alike",
    "copied",
    "class_ignored",
    "classes_mixed",
    "few_pictures",
]
Severity = Literal["warning", "failure"]
"""failure: the model is of no use as it is, and `promote: best` refuses it. warning: worth knowing."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. class_name: None when it concerns more than one class. advice: a sentence for people."""

    kind: FindingKind
    severity: Severity
    class_name: str | None
    advice: str

    def plain(self) -> dict[str, Any]:
        """The form in the database and in files."""
        return asdict(self)

    @property
    def subject(self) -> tuple[FindingKind, Severity, str | None]:
        """Everything but the words, in which numbers change from look to look."""
        return self.kind, self.severity, self.class_name


def failed(findings: Sequence[Finding]) -> bool:
    """Return True when the model is of no use as it is."""
    return any(finding.severity == "failure" for finding in findings)
