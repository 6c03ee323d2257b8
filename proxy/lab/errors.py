"""What can go wrong in a lab, told to the user in one sentence and a hint."""

from __future__ import annotations


class LabError(Exception):
    """`hint` says what to do about it; it may be empty."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message
