"""Whatever is sent as a request, control answers once, takes only what is sound, and goes on."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bmsd.codec import record
from bmsd.link import wire
from bmsd.link.server import LinkServer
from bmsd.model.published import PROTOCOL, Hello
from bmsd.model.request import Connect, Power, Release, Request, Reserve, Reset, Role, complaint

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=8), st.binary(max_size=8)
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner))
KNOWN: dict[str, Any] = {
    "what": st.sampled_from(wire.WORDS) | VALUES,
    "code": st.sampled_from(["all", "trip", "CEL-003", "CEL-004", "power", "reserve", ""]) | VALUES,
    "reason": st.text(max_size=5) | VALUES,
    "value": st.floats() | VALUES,
    "lease_s": st.floats(0.0, 4000.0) | VALUES,
    "source": st.text(max_size=70) | VALUES,
    "more": VALUES,
}
MAPS = st.lists(st.sampled_from(sorted(KNOWN)), unique=True).flatmap(
    lambda names: st.fixed_dictionaries({"what": KNOWN["what"]} | {name: KNOWN[name] for name in names})
)


def judged(data: bytes, role: Role) -> tuple[wire.Answer, Request | None]:
    """What a server that takes all it can makes of these bytes; it needs no socket for that."""
    server = LinkServer.__new__(LinkServer)
    server._takes = ["reset", "reserve", "power"]
    asked, answer, request = server._judge(data, role)
    text = wire.Answered(role, 0, asked, answer)
    assert (text.who + text.what).isprintable()
    return answer, request


@settings(max_examples=600, deadline=None)
@given(st.one_of(MAPS.map(msgpack.packb), st.binary(max_size=300)), st.sampled_from(Role))
def test_any_bytes_are_answered_and_only_what_is_sound_is_taken(body: bytes, role: Role) -> None:
    answer, request = judged(bytes([wire.Kind.REQUEST]) + body, role)
    assert answer.taken == (request is not None)
    if isinstance(request, Reserve | Power):
        assert complaint(request) == ""
    if isinstance(request, Reset) and role is Role.OPERATOR:
        assert request.code in ("all", "CEL-003")
    if role is Role.OPERATOR:
        assert not isinstance(request, Connect)
    if isinstance(request, Release):
        assert request.what in ("power", "reserve")
    source = "" if request is None else getattr(request, "source", "")
    assert len(source) <= 64
    assert source.isprintable()


def test_arrays_are_no_numbers() -> None:
    body = record.encode({"what": "power", "value": np.array([1.0]), "lease_s": 10.0})
    answer, request = judged(bytes([wire.Kind.REQUEST]) + body, Role.SERVICE)
    assert request is None
    assert "Asked.value" in answer.text


def test_a_client_that_asks_without_end_takes_no_turn_from_service(tmp_path: Path) -> None:
    hello = Hello(PROTOCOL, "", "", 1, 1, 1, 1)
    server = LinkServer(tmp_path / "link.sock", tmp_path / "service.sock", hello, takes=["power"])

    def opened(name: str) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.connect(str(tmp_path / name))
        return client

    flood = [opened("link.sock") for _ in range(14)]
    service = opened("service.sock")
    server.step()
    for turn in range(3):
        for client in flood:
            client.send(wire.pack(wire.Asked("power", value=1.0 + turn, lease_s=10.0, source=str(flood.index(client)))))
    service.send(wire.pack(wire.Asked("disconnect")))
    first = server.step()
    assert Connect(False) in first
    assert len(first) == 10
    heard = {request.source for request in (*first, *server.step()) if isinstance(request, Power)}
    assert len(heard) == 14, "those who had no turn come first in the next tick"
    for client in (*flood, service):
        client.close()
    server.close()
