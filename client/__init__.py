"""What a user's program imports to talk to a Headstart daemon.

Works with the base install: no Ray, engine or server package is imported, and of Headstart only
`headstart.stages`.
"""
