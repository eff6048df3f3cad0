"""Pure decisions: values in, values out, time is an argument.

Nothing here may import asyncio, a socket, a clock, Ray, vLLM, torch or Prometheus.
"""
