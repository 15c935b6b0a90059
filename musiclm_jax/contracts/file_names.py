"""File names as bytes and back: any name, also one that is no UTF-8."""


def to_bytes(name: str) -> bytes:
  """Encodes a name, the same on every machine; ordinary ones as UTF-8."""
  return name.encode('utf-8', 'surrogateescape')


def from_bytes(data: bytes) -> str:
  """Undoes `to_bytes`."""
  return data.decode('utf-8', 'surrogateescape')
