"""Events as they go over the wire: the `text/event-stream` of the HTML standard."""

from __future__ import annotations

from dataclasses import dataclass

MEDIA_TYPE = "text/event-stream"

# A browser that loses the connection comes back after this time.
RETRY = b"retry: 2000\n\n"


@dataclass(frozen=True, slots=True)
class Packet:
    """Bytes of a stream, as they are and as one chunk of a chunked HTTP answer; made once for all viewers."""

    plain: bytes
    chunk: bytes

    @classmethod
    def of(cls, data: bytes) -> Packet:
        """Frames the bytes."""
        return cls(data, b"%x\r\n%s\r\n" % (len(data), data))


HEARTBEAT = Packet.of(b": still here\n\n")
# Only a chunked answer says where it ends.
END = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Event:
    """A whole document; a newer one of the same name takes its place.

    Attributes:
        name: Its kind.
        key: Changes when the document does in something that viewers should know at once.
        packet: Its bytes.
    """

    name: str
    key: str
    packet: Packet

    @classmethod
    def of(cls, name: str, document: str, key: str | None = None) -> Event:
        """Makes an event.

        Args:
            name: Its kind.
            document: JSON on one line.
            key: See the class; the document itself by default.
        """
        return cls(name, document if key is None else key, Packet.of(f"event: {name}\ndata: {document}\n\n".encode()))
