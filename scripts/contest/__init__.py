"""The training benchmark's parts: who takes part, how they are run, and what is drawn of it."""
