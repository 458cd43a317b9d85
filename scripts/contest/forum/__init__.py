"""The forum benchmark's parts: the snippets that people are given, and what comes out of them."""
