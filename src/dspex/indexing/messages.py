"""Words for the actor of a job that indexes passages."""

__all__ = ["CANCEL", "PAUSE", "RESUME"]

CANCEL = "cancel"
"""Cast to a job's actor to end the job."""

PAUSE = "pause"
"""Cast to a job's actor to begin nothing more for a while."""

RESUME = "resume"
"""Cast to a job's actor to go on."""
