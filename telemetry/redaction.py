"""Removes secrets from log lines: API keys, passwords in addresses, Authorization headers.

It recognises them by their form, because a driver's error may repeat what no line of ours would write. In doubt it
hides more.
"""

import re

HIDDEN = "***"

_FORMS = (
    (re.compile(r"\b(drk_[a-z0-9]+)_[A-Za-z0-9_-]+"), rf"\1_{HIDDEN}"),  # keep the prefix, which lists of keys show
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
