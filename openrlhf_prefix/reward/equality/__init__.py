"""When two answers are equal: trees against trees, by what they are."""
