"""The logger of a room, as an application uses it."""

import logging

import pytest

from dspex.runtime import get_logger


def test_it_has_the_methods_of_a_logger(caplog: pytest.LogCaptureFixture) -> None:
    """With fields that are bound to all of its records, and the exception that is being handled."""
    log = get_logger("tests").bind(actor="a")
    with caplog.at_level(logging.DEBUG, logger="dspex.tests"):
        log.debug("looked")
        log.info("began")
        log.critical("lost", reason="x")
        try:
            raise LookupError("gone")
        except LookupError:
            log.exception("failed")

    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [
        ("DEBUG", "looked"),
        ("INFO", "began"),
        ("CRITICAL", "lost"),
        ("ERROR", "failed"),
    ]
    assert {vars(each)["actor"] for each in caplog.records} == {"a"}
    assert vars(caplog.records[2])["reason"] == "x"
    assert caplog.records[3].exc_info is not None
