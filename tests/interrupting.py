"""An interruption at each step of a function, one after the other."""

from __future__ import annotations

import itertools
import sys
import warnings

import pytest


def interrupted_at_each_step(function, call):
    """Yield after each time that *call* was interrupted somewhere inside *function*."""
    for number in itertools.count(1):
        steps = itertools.count(1)

        def trace(frame, event, _, steps=steps, number=number):
            if frame.f_code is not function.__code__:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode" and next(steps) == number:
                raise KeyboardInterrupt
            return trace

        # What an interruption loses between two steps closes itself, and Python tells.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            before = sys.gettrace()
            sys.settrace(trace)
            try:
                call()
            except KeyboardInterrupt:
                pass
            else:
                return
            finally:
                sys.settrace(before)
        if next(steps) <= number:
            pytest.fail("it was never interrupted")
        yield number
