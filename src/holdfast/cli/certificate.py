"""The certificate of a rehearsed resume as text and as data."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from holdfast.cli.output import clean, paint

if TYPE_CHECKING:
    from holdfast.rehearsal import Certificate


def as_data(certificate: Certificate) -> dict[str, Any]:
    """The certificate as plain data."""
    return {
        "schema": "holdfast-resume-check/1",
        "entry": certificate.entry,
        "exact": certificate.exact,
        "warm_up_steps": certificate.warm_up_steps,
        "steps": certificate.steps,
        "findings": [asdict(finding) for finding in certificate.findings],
        "notes": list(certificate.notes),
        "environment": dict(certificate.environment),
    }


def as_text(certificate: Certificate) -> str:
    """The verdict, then why, the likeliest first."""
    where = ", ".join(f"{name} {value}" for name, value in certificate.environment.items())
    if certificate.exact:
        verdict = paint("resumes exactly", "green")
        tail = f"{certificate.steps} steps after the save are the same, bit for bit ({where})"
        lines = [f"{clean(certificate.entry)} {verdict}: {tail}"]
        return "\n".join([*lines, *(f"note: {clean(text, 400)}" for text in certificate.notes)])
    lines = [f"{clean(certificate.entry)} {paint('does not resume exactly', 'red')} ({where})"]
    for number, finding in enumerate(certificate.findings, start=1):
        when = "right after restoring" if finding.step == 0 else f"after {finding.step} steps"
        lines.append(f"{number}. {clean(finding.kind)}: {clean(finding.what, 600)} ({when})")
        lines.append(f"   what to do: {clean(finding.fix, 400)}")
    return "\n".join(lines)
