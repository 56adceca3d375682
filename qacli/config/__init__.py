"""Settings: their declaration, the sources they come from, and their parsers."""
