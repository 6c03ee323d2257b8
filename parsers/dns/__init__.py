"""DNS (RFC 1035): queries and what is refused of them, answers and what may be learnt from them, DNS over TCP."""
