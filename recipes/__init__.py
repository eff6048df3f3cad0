"""Training recipes: weights that decode several tokens a step, and drafters for one language.

Nothing that serves imports this package, except the command line, lazily.
"""
