"""Limits that figures are held against, told apart at a glance."""

from __future__ import annotations


def judge(what: str, figure: float, limit: float, *, at_most: bool = True, unit: str = "") -> bool:
    """Print whether a figure keeps its limit; return that."""
    kept = figure <= limit if at_most else figure >= limit
    sign = "at most" if at_most else "at least"
    verdict = "PASS" if kept else "MISSED"
    print(f"  {verdict:<6} {what}: {figure:.2f}{unit}, limit {sign} {limit:g}{unit}")
    return kept
