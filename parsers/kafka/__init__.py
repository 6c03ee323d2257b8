"""Kafka (Apache Kafka protocol guide, KIP-482, KIP-516): frames, requests and their topics, answers, refusals."""
