"""A pure function from a request to a reply. It is not a language model: it learns the rule demonstrations follow."""

from dspex.simulator.learner._answer import MODEL, answer
from dspex.simulator.learner._body import Body, Finish, LearnerReply, Role
from dspex.simulator.learner._text import tokens

__all__ = ["MODEL", "Body", "Finish", "LearnerReply", "Role", "answer", "tokens"]
