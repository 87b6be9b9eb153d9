"""Every class of records in the journal: its MESSAGE_ID, which never changes, and what it tells."""

from __future__ import annotations

from typing import NamedTuple

_TABLE = """\
fault.raised cfdb2a7278f148c790f947004ea67a3b A fault of the catalogue began; BMSD_FAULT is its code.
fault.cleared 84b84bc9a9964f63b16cd2b3aedfc8cb A fault is over.
rack.state f7d4bbc881ee477b87c9e5715da57b17 The rack is in another state; BMSD_STATE is the new one.
rack.missing 336abbd1acd941e687d1132be62bac58 A bus, a board or a contactor unit does not answer.
rack.complete 6ee51d78bf0e4c638abbe4039b090cb7 All boards and contactor units answer.
string.state c1a51a1cb5bb443ca8547e350674c2a6 The contactors of a string are in another state.
guard.veto bf75c411caf443ac852739f96ea9666d The guard took something away that was decided.
gate.blocked 0ded5c8f8b23439d937c46ad1753275d The transmit gate did not let frames through.
request.taken ceacbd160e4b41e08a3af404ca41bc3a Somebody asked control for something, and it was taken.
request.refused cd396d78b5c442759f0e9cbf0a9b98f2 Somebody asked control for something, and it was refused.
lease.ended 265d02ae3bab44288fac38e014073d01 A set-point is over.
control.running 3f052b1409b94770ad493f4341b57718 Control runs; the link listens.
control.stopping 11e8c0c441204c39a88b2998cf4968a6 Control was asked to leave.
control.left 2e0172e72d53447f81cdac1b7254e15b Control has left.
control.defect b26a0c91190e4c0cb90e7659f1f0fae7 A defect of bmsd: limits were set to zero, control ends.
state.new a52500adf5e345b2b5926a477c3e6f8b There is no saved state.
state.restored 7711408adba74fc7bf2730352db72fc7 The saved state is used.
state.partly_used c99a34a27ec7429cbc31f59aabb0f974 A part of the saved state does not fit this rack.
state.unreadable 93ad6230adf048a0a9a5538553a42328 A saved state cannot be read.
state.not_saved d0cd56fa4f834329b163f02f4bcb994c The state cannot be written.
state.saved_again 9df4503e26294277b7c548fbb0241b53 The state can be written again.
clock.stepped c68479c6b951413497734f2ae6d63ab0 The wall clock was set.
heartbeat.output 9bd9e03c6b2f4e43814a6f19f3cf07a5 The line of the safety relay cannot be set, or contradicts.
link.group 359067b01daa4a49b9af3fddf31789f4 A socket of the link could not be given to its group.
link.open e2f6d54787694105930f5fb2e63f8533 The gateway is connected to control.
link.lost b9d292e8a9854fce9f46e2732c7aa8c9 The gateway lost control, or does not find it.
configuration.note 4962db6cbd56421c9c6863846889b845 Something on this computer should be put right.
configuration.wrong 1a77d5ac29ee48cdb7b94601ac64422b The configuration is wrong; exit code 78.
configuration.applied 1f6597f0fe67496589b17056d7fb10a1 The file was read again, and settings have changed.
configuration.unchanged 1d6104fe97ac4bddae304064f8645ba7 The file was read again, and nothing has changed.
configuration.waits 94795e73d6244e2ca3d9d97d8ec4c6b0 The file was read again: what changed needs a restart.
configuration.refused 12a9fbe5e73840b89e438777c6c8e3f6 The file was read again and is wrong: the settings before hold.
service.not_told 9e743ba84aae4275ba29a7ea03f8e3a6 The service manager cannot be told how the process is.
service.failed 61853bf55fcc462da8077aa28cf11276 The process cannot serve, and ends.
service.scheduling 7a00eb4f9b424f9f8aac37edec3983b5 How the process is scheduled, whether its memory is locked.
log.dropped 174ade747d7b4588ae24ddfc5e008b4e The log was too slow: records were dropped.
log.no_journal 7f4b8d98efd3492b8e9c310901f2ef02 There is no journald: lines are written instead.
gateway.running 0f1bdcc6e82b43f4877b96e36b5bc5dd The gateway runs.
gateway.stopping 9a8070ca8b97409f9fc2c9e9637006ac The gateway was asked to leave.
gateway.left 423303b602b5499fac1612bbb06f28b6 The gateway has left.
gateway.given_address 4e69f4df6d2b45ea98c20823882bb055 An output serves at a socket that was given.
gateway.other_address be9559d6b9ff4e3b9c6adb9d6fc8f853 An output serves at a given socket, not where the settings say.
gateway.socket_not_served a80cfa3aaa4a40818aa4bb31c09cc9b7 A socket was given for an output that is not wanted.
modbus.listening 57ec6c0c451843c181a44892da9fccb2 Modbus serves.
modbus.written 1e7b8815feb1426eb8c3af231cd26586 A client of Modbus wrote a point.
modbus.write_refused 97de28b2eb8d46dd839ec2bb05b10629 A client of Modbus was refused a write.
modbus.writes_refused 9a6c5d334789433ba4a5ab10b60468af A client of Modbus was refused more writes.
modbus.connections_refused ff2893f560534c0c8f27c980ec51fe97 There was no room for clients of Modbus.
modbus.not_modbus 33c1d8c833ab40ae84be46ed8287ac9e A client does not speak Modbus.
modbus.dropped 2f3afba1edfe4577988f384b91a735a1 A client of Modbus that did nothing was dropped.
mqtt.connected e2e1c54003274448ac83dd4f57d375b7 The broker took the gateway in.
mqtt.lost a3ada66017fd44c5947fc7b96c3ad4a8 There is no connection to the broker.
mqtt.refused e460bedce0154dd7a96f40d7e020f0bd The broker threw a message away.
mqtt.in_clear ffaa718f3b124d1192c1916665f8320c The password of the broker goes over the network in clear.
web.listening 2528ac144a684905a66ff55c18b6d08a REST, stream and metrics are served.
web.defect 5e39cec2b65046b98a7f68abd39e837e A defect of bmsd in an answer of REST.
"""


class Message(NamedTuple):
    """One class. `id` was made once with `systemd-id128 new`."""

    id: str
    meaning: str


MESSAGES = {kind: Message(*rest) for kind, *rest in (line.split(" ", 2) for line in _TABLE.splitlines())}
"""By the kind of the event, which is also the first word of a line of the log."""
