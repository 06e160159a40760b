"""Chat messages as data sets write them: content as text, or as parts of which the texts are joined.

{"role": "user", "content": "1+2?"}
{"role": "user", "content": [{"type": "text", "text": "1+"}, {"type": "text", "text": "2?"}]}      the same
"""

from typing import Any

Messages = list[dict[str, Any]]

# Kinds of parts that are no text, as the templates of vision and audio models name them.
MEDIA = {"image": "an image", "image_url": "an image", "video": "a video", "audio": "audio", "input_audio": "audio"}
IMAGE_COLUMNS = ("images", "image")


def read_messages(found: Any) -> Messages:
    """The messages with their content as text.

    Raises:
        ValueError: what keeps `found` from being a list of messages: "message 0 has no text under 'content'".
    """
    if not isinstance(found, list):
        raise ValueError(f"it is {type(found).__name__}")
    if not found:
        raise ValueError("it is empty")
    return [_message(index, message) for index, message in enumerate(found)]


def _message(index: int, message: Any) -> dict[str, Any]:
    if not isinstance(message, dict):
        raise ValueError(f"message {index} is {type(message).__name__}")
    content = message.get("content")
    if isinstance(content, list):
        content = _joined(index, content)
    for key, text in (("role", message.get("role")), ("content", content)):
        if not isinstance(text, str):
            raise ValueError(f"message {index} has no text under {key!r}")
    return {**message, "content": content}


def _joined(index: int, parts: list[Any]) -> str | None:
    """The texts of all parts; None when there is something else that has no name here."""
    texts = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in MEDIA:
            raise ValueError(f"message {index} holds {MEDIA[kind]}, and prefixes are of text alone")
        text = part.get("text") if isinstance(part, dict) else None
        if not isinstance(text, str):
            return None
        texts.append(text)
    return "".join(texts) if texts else None


def images_of(row: dict[str, Any]) -> str | None:
    """The column of a row that holds images; None without any."""
    return next((name for name in IMAGE_COLUMNS if row.get(name)), None)
