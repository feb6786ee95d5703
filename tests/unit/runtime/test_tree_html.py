"""The tree in a notebook: the same lines, and no code of a label."""

from __future__ import annotations

from dspex.runtime import TreeNode


def test_a_label_is_no_code_in_a_notebook() -> None:
    node = TreeNode("<script>", 1, "running", children=(TreeNode("b&c", 2, "stopped"),))

    assert node._repr_html_() == "<pre>&lt;script&gt;\n  b&amp;c  (stopped)</pre>"
