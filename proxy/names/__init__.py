"""What DNS answers have told each endpoint, and which addresses that keeps open.

Workers open addresses in the kernel's map `names` before an answer goes out, and report it. `store` remembers that and
takes the openings away when their time is over; `records` are its data, `evictions` say who goes first where there is
too much; `saved` keeps it over restarts; `keeper` runs all that in the agent's event loop; `told` lists it for people.
"""
