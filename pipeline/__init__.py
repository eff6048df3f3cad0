"""The thin IO shell: sockets, HTTP, the command line, and the processes a daemon is made of.

Decisions belong in `headstart.stages`, tokens in `headstart.cluster`. Only `headstart.benchmarks`
may import this package.
"""
