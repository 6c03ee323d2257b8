"""Prints the JSON Schema of policy files."""

from __future__ import annotations

import json

from config.schema import policy_schema

print(json.dumps(policy_schema(), indent=2))
