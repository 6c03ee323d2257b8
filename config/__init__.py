"""What is to be enforced: settings, endpoints, identities and policy files, up to the immutable snapshot.

    files -> text.py (bytes) -> yaml_values.py (values with places) -> policy/model.py (schema)
          -> policy/translate.py (meaning) -> policy/resolve.py (identities) -> policy/resolved.py `Snapshot`

`store.py` keeps the last good version of every file, `watch.py` says when to look again. Nothing in here knows a
socket, a map or the clock.
"""
