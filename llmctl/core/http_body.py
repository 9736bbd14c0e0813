"""The body of an HTTP/1.1 answer that was read to its end (RFC 9112, section 7.1)."""


def split_answer(raw: bytes) -> tuple[int | None, bytes]:
    """Status and body; (None, b"") for what is no answer. A body that is cut short is what came."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    first, *fields = head.split(b"\r\n")
    parts = first.split(b" ", 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/") or not parts[1].isdigit():
        return None, b""
    names = {
        name.strip().lower(): value.strip().lower()
        for name, _, value in (field.partition(b":") for field in fields)
    }
    chunked = names.get(b"transfer-encoding") == b"chunked"
    return int(parts[1]), b"".join(_chunks(rest)) if chunked else rest


def _chunks(data: bytes) -> list[bytes]:
    """What is in the chunks, up to the last one or to where they break off."""
    found: list[bytes] = []
    at = 0
    while (end := data.find(b"\r\n", at)) >= 0:
        try:
            size = int(data[at:end].split(b";")[0], 16)
        except ValueError:
            break
        if size <= 0:
            break
        found.append(data[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return found
