"""
The task: messages to a bank, sorted by what their senders want.

Ten of the 77 intents of BANKING77 (Casanueva et al. 2020, PolyAI, CC BY 4.0; see ``banking10.LICENSE.md``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from dspex.programs import Example, InputField, OutputField, Predict, Signature

__all__ = ["Banking", "SortMessage", "read_banking", "sorter"]

_FILE: Final = Path(__file__).with_name("banking10.jsonl")


class SortMessage(Signature):
    """Sort a message to a bank by what its sender wants."""

    message: str = InputField()
    intent: Literal[
        "activate_my_card",
        "age_limit",
        "apple_pay_or_google_pay",
        "atm_support",
        "automatic_top_up",
        "balance_not_updated_after_bank_transfer",
        "balance_not_updated_after_cheque_or_cash_deposit",
        "beneficiary_not_allowed",
        "cancel_transfer",
        "card_about_to_expire",
    ] = OutputField()


@dataclass(frozen=True, slots=True)
class Banking:
    """Messages to learn from and others to be scored on; any beginning of either has the intents in equal parts."""

    train: tuple[Example, ...]
    held_out: tuple[Example, ...]


def read_banking() -> Banking:
    """Read the rows that come with dspex."""
    rows = [json.loads(line) for line in _FILE.read_text(encoding="utf-8").splitlines()]
    train, held_out = (
        tuple(Example(message=row["text"], intent=row["intent"]) for row in rows if row["split"] == split)
        for split in ("train", "held_out")
    )
    return Banking(train, held_out)


def sorter() -> Predict[SortMessage]:
    """Return the program that is asked and taught."""
    return Predict(SortMessage)
