"""One typed `Settings` model, and a profile for each kind of machine.

The only place that reads the environment. Imports nothing else of Headstart.
"""
