"""Greets `input.who`."""

import step

given, _ = step.read()
step.write({"greeting": f"hello, {given.get('who', 'world')}"})
