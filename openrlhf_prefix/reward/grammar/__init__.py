"""How answers are written: text to tokens to trees. Nothing here knows when two answers are equal."""
