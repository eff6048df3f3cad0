"""One module for each claim, measured side by side with its baseline.

May import anything; nothing imports this package, except the command line, lazily.
"""
