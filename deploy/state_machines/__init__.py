"""The state machines that ship, and how they get into an account."""

from deploy.state_machines.curate import (
    StateMachineError,
    curate_definition,
    ensure_state_machine,
)

__all__ = ["StateMachineError", "curate_definition", "ensure_state_machine"]
