"""Parts of `plain_speech`: how people speak of a world that nobody has written words for, made from its schema and tools alone."""
