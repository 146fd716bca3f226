"""What must not be read in a log: keys to the API, passwords in addresses, Authorization headers.

Recognised by their form, since a driver's error may repeat what no line of this project would write. Where it is in
doubt more is hidden rather than less.
"""

import re

HIDDEN = "***"

_FORMS = (
    (re.compile(r"\b(drk_[a-z0-9]+)_[A-Za-z0-9_-]+"), rf"\1_{HIDDEN}"),  # what stays is the part that lists show
    (re.compile(r"(://[^\s:/@]*:)[^\s@]*@"), rf"\1{HIDDEN}@"),
    (re.compile(r"(?i)\b(bearer|authorization\W+basic)\s+[^\s'\",]+"), rf"\1 {HIDDEN}"),
    (
        re.compile(
            r"(?i)((?:password|passwd|secret|token|api[_-]?key)['\"]?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|[^\s&,;'\"]+)"
        ),
        rf"\1{HIDDEN}",
    ),
)


def redacted(text: str) -> str:
    """The text without its secrets."""
    for form, instead in _FORMS:
        text = form.sub(instead, text)
    return text
