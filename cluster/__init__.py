"""Where tokens are made: the engine contract, vLLM replicas, Ray Serve and the data plane.

HTTP towards users belongs in `headstart.pipeline`. Whatever vLLM or Ray does not promise to keep is
touched in one adapter module only.
"""
