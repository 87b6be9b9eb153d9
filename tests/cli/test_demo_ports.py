"""Demos beside each other: each has ports of its own, from the moment it chose them."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from bmsd.demo import LOCAL, PORTS, _free_ports, _is_free


def test_demos_that_start_at_once_do_not_choose_the_same_ports() -> None:
    with ExitStack() as first, ExitStack() as second:
        chosen = [_free_ports(first), _free_ports(second)]
    assert chosen[1] >= chosen[0] + PORTS
    with ExitStack() as again:
        assert _free_ports(again) <= chosen[0], "given back at the end"


def test_ports_of_somebody_else_are_passed_over() -> None:
    with ExitStack() as before:
        first = _free_ports(before)
    with socket.create_server((LOCAL, first + 1)), ExitStack() as stack:
        chosen = _free_ports(stack)
        assert chosen != first
        assert all(_is_free(port) for port in range(chosen, chosen + PORTS))
