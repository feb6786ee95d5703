"""
Language-model programs that run as supervised actors.

Every public name is listed here; the room behind a name is imported when the name is first used, so that
``import dspex`` itself does no I/O, reads no environment and loads no third-party package.
"""
