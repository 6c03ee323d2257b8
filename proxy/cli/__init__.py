"""The `penstock` command. One module per noun; `main` loads only the one that is asked for.

Commands that show something ask the agent's API. Only `run`, `check`, `cleanup`, `policy validate` and `lab` work
without an agent.
"""
