"""Messages that kafka-python has no schema of, in the form of its own: names, types, versions (Apache Kafka 4.3)."""
