"""The form that a model showed it can write: looked up before a predictor asks, and told how the first turn ended."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, cast

from dspex.programs.adapters._adapter import Adapter, HasOtherForms
from dspex.programs.signature import Signature, plan_of
from dspex.protocols.forms import FormMemory
from dspex.protocols.model import LMChoice

if TYPE_CHECKING:
    from dspex.protocols.scope import LMResult, Scope

__all__ = ["LearnedForm", "has_other_forms"]


class LearnedForm(NamedTuple):
    """
    The form of one call's first turn.

    Attributes:
        adapter: Asks in it.
        why: The reason for another form than the adapter's own; empty for that.
        memory: The model's.
        signature: Its name there.
    """

    adapter: Adapter
    why: str
    memory: FormMemory
    signature: str

    @classmethod
    def of(cls, adapter: Adapter, signature: type[Signature], scope: Scope, lm: LMChoice) -> LearnedForm | None:
        """Return the form to ask in; None where nothing is to be remembered. The adapter ``has_other_forms``."""
        memory = scope.forms(lm)
        if memory is None:
            return None
        ladder = {each.name: each for each in (adapter, *cast("HasOtherForms", adapter).other_forms(signature))}
        name = _name(signature)
        form, move = memory.form(name, tuple(ladder))
        return cls(ladder[form], move.words if move is not None else "", memory, name)

    def note(self, scope: Scope, result: LMResult, *, is_read: bool) -> None:
        """Tell the memory how the first turn ended; an answer from a cache was told when it came."""
        if result.cached is not None:
            return
        move = self.memory.note(self.signature, self.adapter.name, is_read=is_read)
        telemetry = scope.telemetry
        if move is None or telemetry is None or not telemetry.active:
            return
        about = {"lm": result.lm.model, "signature": move.signature, "to": move.to}
        telemetry.emit("dspex.lm.form", {"unreadable": move.unreadable, "turns": move.turns}, about)


@cache
def has_other_forms(kind: type[Adapter]) -> bool:
    """Return ``isinstance`` of a protocol, which looks at every member anew each time: more than the rest of a look."""
    return hasattr(kind, "other_forms")


def _name(signature: type[Signature]) -> str:
    """Return a signature's name and a digest of what it asks for: other instructions leave its form as it is."""
    plan = plan_of(signature)
    known: str | None = plan.rendered.get(LearnedForm)
    if known is None:
        asked = "\n".join(f"{each.name}: {each.type_text}" for each in plan.outputs)
        known = plan.rendered[LearnedForm] = f"{plan.name}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
    return known
